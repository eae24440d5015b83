"""Hosting an orchestrator: plant its children, show them as the run's graph, and end in the state of its row.

Nothing here decides anything. A host that dies loses nothing: the children go on, the database settles the parent, and
the next host adopts what it finds. While Prefect is away children are planted and settled all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from prefect import Flow, get_client, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TagsContext
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.states import Cancelled, Failed

from flows import report
from flows.runs import close_flow_run, flow_run_url, hosting_settings, plant_task_run, run_planted, state_like
from tasks_lib.client import percent_of
from tasks_lib.crashpoints import crashpoint
from tasks_lib.creation import plant_children
from tasks_lib.errors import LeaseLostError, TaskError
from tasks_lib.queue import ClaimedTask, leases
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.watching import ChildRow, Ended, Watcher, children_of
from tasks_lib.settings import get_settings

logger = logging.getLogger(__name__)

RETRY_SECONDS = 10
STARTS_AT_ONCE = 4
LEAVE_SECONDS = 3
CANCELLED = "cancelled in the Prefect UI"
HOST_ENDS = "its host ends; another worker goes on"
PREFECT_AWAY = (httpx.HTTPError, PrefectException)


@dataclass
class Hosted:
    """One orchestrator that is hosted here, and what its run shows."""

    claimed: ClaimedTask
    watcher: Watcher
    client: PrefectClient
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    error: TaskError | None = None
    progress: report.ProgressArtifact = field(default_factory=report.ProgressArtifact)


_hosted: ContextVar[Hosted] = ContextVar("hosted")


class Hosting:
    """All orchestrators that one worker hosts, by their flow runs."""

    def __init__(self, watcher: Watcher, client: PrefectClient) -> None:
        self.watcher = watcher
        self.client = client
        self._starting = asyncio.Semaphore(STARTS_AT_ONCE)
        self.drain: Callable[[str], None] = lambda _: None
        self.hosted: dict[UUID, Hosted] = {}

    def on_sigterm(self) -> None:
        """Drain on SIGTERM. Prefect's engine installs its own handler at every sub-flow start, so this is repeated."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.drain, "it got SIGTERM")

    async def host(self, claimed: ClaimedTask) -> None:
        """Plant an orchestrator's children and wait, in a sub-flow run, until its row has ended.

        Cancelling this leaves the row to another host.
        """
        hosted = Hosted(claimed, self.watcher, self.client)
        try:
            await asyncio.to_thread(plant_children, claimed)
        except LeaseLostError:
            return
        except TaskError as error:
            hosted.error = error
        showing = asyncio.ensure_future(self._show(hosted))
        try:
            await asyncio.shield(showing)
        except asyncio.CancelledError:
            # Cancelling the sub-flow itself would show it as crashed.
            hosted.leaving.set()
            await asyncio.wait([showing])
            raise
        if hosted.error is not None:
            raise hosted.error

    async def show_progress(self) -> None:
        """Bring the progress of all hosted runs up to date, with one query."""
        shown = {hosted.claimed.id: (run_id, hosted) for run_id, hosted in self.hosted.items()}
        if not shown:
            return
        for task_id, percent in (await asyncio.to_thread(percent_of, list(shown))).items():
            run_id, hosted = shown[task_id]
            await hosted.progress.update(self.client, run_id, percent)

    async def _show(self, hosted: Hosted) -> None:
        claimed = hosted.claimed
        begun = asyncio.Event()

        async def hosted_run(task_id: str) -> State[Any]:  # noqa: ARG001  shown as the run's parameter
            run_id = UUID(flow_run.id)
            begun.set()
            self.on_sigterm()
            self.hosted[run_id] = hosted
            try:
                return await follow_row(hosted)
            finally:
                del self.hosted[run_id]

        run = Flow(
            fn=hosted_run,
            name=claimed.task_type,
            flow_run_name=claimed.name,
            persist_result=False,
            validate_parameters=False,
        )
        while not hosted.leaving.is_set():
            try:
                # A few at a time: each start is several calls, and fifty at once would all be slow.
                async with self._starting:
                    with hosting_settings(), tags(claimed.task_type, f"project:{claimed.project_id}"):
                        running = asyncio.ensure_future(run(str(claimed.id), return_state=True))
                    beginning = asyncio.ensure_future(begun.wait())
                    await asyncio.wait([running, beginning], return_when=asyncio.FIRST_COMPLETED)
                    beginning.cancel()
                await running
                return
            except PREFECT_AWAY as error:
                logger.warning("%s is not shown for the moment: %s", claimed.name, str(error) or type(error).__name__)
            ended = asyncio.ensure_future(hosted.watcher.ended(claimed.id))
            await asyncio.wait([ended], timeout=RETRY_SECONDS)
            if ended.done() or hosted.error is not None:
                return
            ended.cancel()


async def follow_row(hosted: Hosted) -> State[Any]:
    """The body of an orchestrator's run: the children as its graph, and at the end the state of the row."""
    _hosted.set(hosted)
    claimed, run_id = hosted.claimed, UUID(flow_run.id)
    if hosted.error is not None:
        return Failed(message=str(hosted.error))
    await asyncio.to_thread(leases.show_in_prefect, claimed.lease, flow_run_id=run_id)
    crashpoint("host.shown")
    if claimed.previous_flow_run_id not in (None, run_id):
        assert claimed.previous_flow_run_id is not None
        message = f"its host died; {claimed.name} goes on in {flow_run_url(run_id)}"
        await close_flow_run(hosted.client, claimed.previous_flow_run_id, message)
    rows = await asyncio.to_thread(children_of, claimed.id)
    # Tags of the run are not its children's: each would cost a call before the child can start.
    with TagsContext(current_tags=set()):
        graph = asyncio.ensure_future(_follow_children(rows))
        leaving = asyncio.ensure_future(hosted.leaving.wait())
        ended = asyncio.ensure_future(hosted.watcher.ended(claimed.id))
        await asyncio.wait([ended, leaving], return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        # The row may have ended just now, and the watcher sees that a moment later.
        await asyncio.wait([ended], timeout=LEAVE_SECONDS)
        if not ended.done():
            hosted.watcher.forget([claimed.id, *(row.id for row in rows)])
            await graph
            return Cancelled(message=HOST_ENDS)
        await graph
    crashpoint("host.followed")
    await report.show_result(hosted.client, claimed.name, ended.result(), hosted.progress)
    return state_like(ended.result().status, ended.result().error_message)


async def _follow_children(rows: list[ChildRow]) -> None:
    """Each child as a task run that is Pending until those before it have ended, and then awaits its row."""
    runs: dict[str, TaskRun] = {}
    for row in rows:
        runs[row.child_key] = await plant_task_run(_child, row.name, [runs[key] for key in row.after])
    done = {row.child_key: asyncio.Event() for row in rows}

    async def follow(row: ChildRow) -> None:
        for key in row.after:
            await done[key].wait()
        await run_planted(_child, runs[row.child_key], {"task_id": str(row.id)})
        done[row.child_key].set()

    await asyncio.gather(*(follow(row) for row in rows))


@task(persist_result=False, cache_policy=NO_CACHE)
async def _child(task_id: str) -> State[Any]:
    ended: Ended = await _hosted.get().watcher.ended(UUID(task_id))
    return state_like(ended.status, ended.error_message or report.made_by(ended))


async def host_in_this_run(task_id: UUID) -> State[Any]:
    """Host one orchestrator in the run that this is called in; if another host has it already, wait with it."""
    bell = Bell()
    watcher = Watcher(bell)
    worker_id = f"run-{flow_run.id}"
    helpers = [asyncio.create_task(coroutine) for coroutine in (bell.listen(), watcher.run())]
    try:
        claimed = await asyncio.to_thread(leases.claim, "api", worker_id, hosted=True, task_id=task_id)
        if not claimed:
            ended = await watcher.ended(task_id)
            return state_like(ended.status, ended.error_message)
        async with get_client() as client:
            hosted = Hosted(claimed[0], watcher, client)
            helpers.append(asyncio.create_task(_keep_lease(worker_id, hosted)))
            try:
                await asyncio.to_thread(plant_children, claimed[0])
            except TaskError as error:
                await asyncio.to_thread(leases.fail, claimed[0].lease, error)
                return Failed(message=str(error))
            # Prefect's own handler would crash the run, and leave the row to the next host.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, hosted.leaving.set)
            state = await follow_row(hosted)
            if hosted.leaving.is_set() and state.is_cancelled():
                return await _leave(hosted)
            return state
    finally:
        for helper in helpers:
            helper.cancel()


async def _keep_lease(worker_id: str, hosted: Hosted) -> None:
    """Heartbeats, progress and cancellation for the one task that this run hosts."""
    run_id, claimed = UUID(flow_run.id), hosted.claimed
    while True:
        await asyncio.sleep(get_settings().heartbeat_seconds)
        try:
            await asyncio.to_thread(leases.heartbeat, worker_id, [claimed.lease])
            for percent in (await asyncio.to_thread(percent_of, [claimed.id])).values():
                await hosted.progress.update(hosted.client, run_id, percent)
        except (*PREFECT_AWAY, TaskError) as error:
            logger.warning("no heartbeat for the moment: %s", str(error) or type(error).__name__)


async def _leave(hosted: Hosted) -> State[Any]:
    """This process is to end: because the run was cancelled, and then the row is too, or for another reason."""
    run = await hosted.client.read_flow_run(UUID(flow_run.id))
    if run.state is not None and run.state.is_cancelling():
        await asyncio.to_thread(leases.cancel, hosted.claimed.id, CANCELLED)
        return Cancelled(message=CANCELLED)
    with contextlib.suppress(LeaseLostError):
        await asyncio.to_thread(leases.give_back, hosted.claimed.lease)
    return Cancelled(message=HOST_ENDS)
