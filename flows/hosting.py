"""Hosting an orchestrator: plant its children, show them as the run's graph, and end in the state of its row.

Nothing here decides anything. A host that dies loses nothing: the children go on, the database settles the parent, and
the next host adopts what it finds. While Prefect is away children are planted and settled all the same.

A worker shows what it hosts in runs of the type's deployment, which people can cancel, retry and delete by clicking.
Such a run has no work queue: no process is started for it and it takes no slot; see docs/decisions/0020.
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
from uuid import UUID, uuid5

import httpx
from prefect import Flow, get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.context import FlowRunContext, TagsContext
from prefect.exceptions import Abort, ObjectNotFound, Pause, PrefectException
from prefect.runtime import flow_run
from prefect.states import Failed, Running

from flows import report
from flows.mending import CANCELLED, CANNOT_END
from flows.pages import key_of
from flows.runs import (
    HOST_ENDS,
    ShownFlow,
    close_flow_run,
    create_flow_run,
    flow_run_url,
    hand_over,
    plant_task_run,
    run_hosted,
    run_planted,
    shown_flow,
    start_again_later,
    state_like,
    take_over,
)
from tasks_lib.client import percent_of
from tasks_lib.crashpoints import crashpoint
from tasks_lib.creation import plant_children
from tasks_lib.errors import LeaseLostError, NotFoundError, TaskError
from tasks_lib.queue import ClaimedTask, leases
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.watching import ChildRow, Ended, Watch, Watcher, children_of
from tasks_lib.settings import get_settings

logger = logging.getLogger(__name__)

RETRY_SECONDS = 10
STARTS_AT_ONCE = 4
LEAVE_SECONDS = 3
AGAIN_SECONDS = 30
PREFECT_AWAY = (httpx.HTTPError, PrefectException)


@dataclass
class Hosted:
    """One orchestrator that is hosted here, and what its run shows."""

    claimed: ClaimedTask
    client: PrefectClient
    watch: Watch
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the run is to let go of the task: its host ends, or somebody has deleted the run."""
    leaving: bool = False
    run_id: UUID | None = None
    error: TaskError | None = None
    progress: report.ProgressArtifact = field(default_factory=report.ProgressArtifact)

    def leave(self) -> None:
        """Leave the task, and its run, to another host."""
        self.leaving = True
        self.stop.set()


_hosted: ContextVar[Hosted] = ContextVar("hosted")


class Hosting:
    """All orchestrators that one worker hosts, by their flow runs."""

    def __init__(self, watcher: Watcher, client: PrefectClient) -> None:
        self.watcher = watcher
        self.client = client
        self._starting = asyncio.Semaphore(STARTS_AT_ONCE)
        self._flows: dict[str, ShownFlow] = {}
        self.drain: Callable[[str], None] = lambda _: None
        self.hosted: dict[UUID, Hosted] = {}

    def on_sigterm(self) -> None:
        """Drain on SIGTERM. Prefect's engine installs its own handler at every start of a run, so this is repeated."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.drain, "it got SIGTERM")

    async def host(self, claimed: ClaimedTask) -> None:
        """Plant an orchestrator's children and wait, in a flow run of its own, until its row has ended.

        Cancelling this leaves the row, and the run, to another host.
        """
        hosted = Hosted(claimed, self.client, Watch(self.watcher))
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
            # Cancelling the run itself would show it as crashed.
            hosted.leave()
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
        """Show the task until it has ended, in a new run where Prefect was away or somebody deleted the run."""
        ended = asyncio.ensure_future(self.watcher.ended(hosted.claimed.id))
        try:
            while not hosted.leaving and not ended.done():
                try:
                    await self._show_in_a_run(hosted)
                except PREFECT_AWAY as error:
                    logger.warning("%s is not shown for the moment: %s", hosted.claimed.name, str(error) or type(error))
                else:
                    if hosted.error is not None:
                        return
                if hosted.stop.is_set():
                    hosted.stop, hosted.watch = asyncio.Event(), Watch(self.watcher)
                else:
                    await _first(ended, asyncio.ensure_future(hosted.stop.wait()), within=RETRY_SECONDS)
        finally:
            ended.cancel()

    async def _show_in_a_run(self, hosted: Hosted) -> None:
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

        shown: Flow[..., Any] = Flow(
            fn=hosted_run, name=claimed.task_type, persist_result=False, validate_parameters=False
        )
        # A few at a time: each start is several calls, and fifty at once would all be slow.
        async with self._starting:
            run = await self._run_of(hosted)
            await _show_here(hosted, run.id, run.flow_id)
            running = run_hosted(shown, run, {"task_id": str(claimed.id)})
            await _first(asyncio.shield(running), asyncio.ensure_future(begun.wait()))
        try:
            await running
        except (Abort, Pause) as left:
            logger.info("%s: %s", claimed.name, left)

    async def _run_of(self, hosted: Hosted) -> FlowRun:
        """The run that goes on with the task: the one that showed it before, if that is free, or a new one."""
        claimed = hosted.claimed
        flow = await self._flow_of(claimed.task_type)
        for run_id, is_ours in ((hosted.run_id, True), (claimed.previous_flow_run_id, False)):
            if run_id and (run := await take_over(self.client, run_id, flow.flow_id, is_ours=is_ours)):
                return run
        try:
            return await create_flow_run(
                self.client,
                flow,
                name=claimed.name,
                parameters={"task_id": str(claimed.id)},
                tags=[claimed.task_type, f"project:{claimed.project_id}"],
            )
        except httpx.HTTPStatusError:
            # The deployment may have been removed, or registered anew.
            del self._flows[claimed.task_type]
            raise

    async def _flow_of(self, task_type: str) -> ShownFlow:
        if task_type not in self._flows:
            self._flows[task_type] = await shown_flow(self.client, task_type)
        return self._flows[task_type]


async def _show_here(hosted: Hosted, run_id: UUID, flow_id: UUID) -> None:
    """Let the row know its run, and end the run that showed it before, if that died with its host."""
    claimed, hosted.run_id = hosted.claimed, run_id
    await asyncio.to_thread(leases.show_in_prefect, claimed.lease, flow_run_id=run_id)
    crashpoint("host.shown")
    if claimed.previous_flow_run_id not in (None, run_id):
        assert claimed.previous_flow_run_id is not None
        message = f"its host died; {claimed.name} goes on in {flow_run_url(run_id)}"
        # The run of `create-task`, which made the task and never showed it, is not to be touched.
        await close_flow_run(hosted.client, claimed.previous_flow_run_id, message, of_flow=flow_id)


async def follow_row(hosted: Hosted) -> State[Any]:
    """The body of an orchestrator's run: the children as its graph, and at the end the state of the row.

    Raises `Abort` when the run is left to the next host.
    """
    _hosted.set(hosted)
    claimed, run_id = hosted.claimed, UUID(flow_run.id)
    if hosted.error is not None:
        return Failed(message=str(hosted.error))
    hosted.progress.key = key_of(claimed.task_type, claimed.id, "progress")
    # Beside the work: pictures are fetched for it.
    about = asyncio.ensure_future(report.show_claimed(hosted.client, report.Run(flow_run_id=run_id), claimed))
    rows = await asyncio.to_thread(children_of, claimed.id)
    # Tags of the run are not its children's: each would cost a call before the child can start.
    with TagsContext(current_tags=set()):
        graph = asyncio.ensure_future(_follow_children(run_id, rows))
        ended = asyncio.ensure_future(hosted.watch.ended(claimed.id))
        await _first(ended, asyncio.ensure_future(hosted.stop.wait()))
        if not ended.done():
            with contextlib.suppress(*PREFECT_AWAY):
                await _cancel_if_asked(hosted.client, run_id)
        # The row may have ended just now, and the watcher sees that a moment later.
        await asyncio.wait([ended], timeout=LEAVE_SECONDS)
        if not ended.done():
            hosted.watch.close(HOST_ENDS)
            await graph
            with contextlib.suppress(*PREFECT_AWAY):
                await hand_over(hosted.client, run_id)
            raise Abort(HOST_ENDS)
        await graph
    crashpoint("host.followed")
    await about
    await report.show_result(hosted.client, claimed, ended.result(), hosted.progress)
    return state_like(ended.result().status, ended.result().error_message)


async def _first(*waiting: asyncio.Future[Any], within: float | None = None) -> None:
    """Wait for the first of these; the last is a helper, and ends with this."""
    try:
        await asyncio.wait(waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting[-1].cancel()


async def _cancel_if_asked(client: PrefectClient, run_id: UUID) -> bool:
    """Cancel what a run shows if somebody has cancelled the run; answer whether. Raises `ObjectNotFound`.

    One that was ended by hand in another way goes on: this process follows its task.
    """
    state = (await client.read_flow_run(run_id)).state
    assert state is not None
    asked = state.is_cancelling() or state.is_cancelled()
    if asked:
        await asyncio.to_thread(leases.cancel_of_run, run_id, CANCELLED)
    elif state.is_completed() or state.is_failed():
        await client.set_flow_run_state(run_id, Running(message=CANNOT_END), force=True)
    return asked


async def _follow_children(run_id: UUID, rows: list[ChildRow]) -> None:
    """Each child as a task run that is Pending until those before it have ended, and then awaits its row."""
    runs: dict[str, TaskRun] = {}
    for row in rows:
        # The same node for a child whenever this run shows it: a host that takes the run over goes on with the nodes.
        node = uuid5(run_id, str(row.id))
        runs[row.child_key] = await plant_task_run(_child, row.name, node, [runs[key] for key in row.after])
    done = {row.child_key: asyncio.Event() for row in rows}

    async def follow(row: ChildRow) -> None:
        for key in row.after:
            await done[key].wait()
        # Pending it stays until a worker has it.
        await _hosted.get().watch.begun(row.id)
        await run_planted(_child, runs[row.child_key], {"task_id": str(row.id)})
        done[row.child_key].set()

    await asyncio.gather(*(follow(row) for row in rows))


@task(persist_result=False, cache_policy=NO_CACHE)
async def _child(task_id: str) -> State[Any]:
    ended: Ended = await _hosted.get().watch.ended(UUID(task_id))
    return state_like(ended.status, ended.error_message or report.made_by(ended))


async def host_in_this_run(task_id: UUID) -> State[Any]:
    """Host one orchestrator in the run that this is called in; if another host has it already, wait with it."""
    stop = asyncio.Event()
    # From the first moment: Prefect's own handler would crash the run, and leave the row to the next host.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    bell = Bell()
    watcher = Watcher(bell)
    worker_id = f"run-{flow_run.id}"
    helpers = [asyncio.create_task(coroutine) for coroutine in (bell.listen(), watcher.run())]
    try:
        async with get_client() as client:
            claimed = await asyncio.to_thread(leases.claim, "api", worker_id, hosted=True, task_id=task_id)
            if not claimed:
                return await _wait_with_host(client, watcher, task_id, stop)
            hosted = Hosted(claimed[0], client, Watch(watcher), stop)
            helpers.append(asyncio.create_task(_keep_lease(worker_id, hosted)))
            return await _host_here(hosted)
    finally:
        for helper in helpers:
            helper.cancel()


async def _host_here(hosted: Hosted) -> State[Any]:
    claimed = hosted.claimed
    try:
        await asyncio.to_thread(plant_children, claimed)
    except TaskError as error:
        with contextlib.suppress(LeaseLostError):
            await asyncio.to_thread(leases.fail, claimed.lease, error)
        return Failed(message=str(error))
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    await _show_here(hosted, context.flow_run.id, context.flow_run.flow_id)
    try:
        return await follow_row(hosted)
    except Abort:
        with contextlib.suppress(LeaseLostError, NotFoundError):
            await asyncio.to_thread(leases.give_back, claimed.lease)
        raise


async def _wait_with_host(client: PrefectClient, watcher: Watcher, task_id: UUID, stop: asyncio.Event) -> State[Any]:
    ended, run_id = asyncio.ensure_future(watcher.ended(task_id)), UUID(flow_run.id)
    await _first(ended, asyncio.ensure_future(stop.wait()))
    if not ended.done():
        if not await _cancel_if_asked(client, run_id):
            await start_again_later(client, run_id, AGAIN_SECONDS)
            raise Abort(HOST_ENDS)
        await asyncio.to_thread(leases.cancel, task_id, CANCELLED)
    return state_like((await ended).status, (await ended).error_message)


async def _keep_lease(worker_id: str, hosted: Hosted) -> None:
    """Heartbeats and progress for the one task that this run hosts; and whether people cancelled or deleted the run."""
    run_id, claimed = UUID(flow_run.id), hosted.claimed
    while True:
        await asyncio.sleep(get_settings().heartbeat_seconds)
        try:
            if (await asyncio.to_thread(leases.heartbeat, worker_id, [claimed.lease])).lost:
                hosted.stop.set()
            await _cancel_if_asked(hosted.client, run_id)
            for percent in (await asyncio.to_thread(percent_of, [claimed.id])).values():
                await hosted.progress.update(hosted.client, run_id, percent)
        except ObjectNotFound:
            hosted.stop.set()
        except (*PREFECT_AWAY, TaskError) as error:
            logger.warning("no heartbeat for the moment: %s", str(error) or type(error).__name__)
