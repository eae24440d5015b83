"""What the two worker flows share: a worker's loop inside a flow run that a person can watch, cancel and let drain."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect import Task, get_client
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed, Running

from flows import api, fleet, mending, report
from flows.controls import follow_controls
from flows.hosting import Hosting
from flows.mending import CANCELLED
from flows.runs import asked_to_cancel_work, deleted_of, tag_this_task_run, this_task_run_id
from tasks_lib.crashpoints import crashpoint
from tasks_lib.errors import LeaseLostError, TaskError
from tasks_lib.queue import ClaimedTask, Lease, Output, Progress, leases
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.watching import Watcher
from tasks_lib.queue.worker import RENEWAL, Execute, Report, Room, Worker
from tasks_lib.settings import get_settings
from tasks_lib.types import registry

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1
CONTROLS_SECONDS = 3
CANNOT_PAUSE = "one worker cannot be paused: pause its work pool, or cancel its run, which ends it in order"
LINK_SECONDS = 3
FLEET_SECONDS = 15
LINK_TRIES = 20
RECENT = timedelta(minutes=10)

_background: set[asyncio.Future[Any]] = set()


async def run_worker(
    run_type: str,
    slots: int,
    execute: Execute,
    *,
    hosts: bool = False,
    models: Callable[[], Sequence[str]] = tuple,
    room: Callable[[], Room] = Room,
    bell: Bell | None = None,
) -> State[Any]:
    """Work as one worker of a pool until there is a reason to end; the state of the run says which."""
    me = UUID(flow_run.id)
    bell = bell or Bell()
    watcher = Watcher(bell)
    shown: dict[UUID, Lease] = {}
    controls_read = asyncio.Event()
    async with get_client() as client:
        hosting = Hosting(watcher, client)
        worker = Worker(
            run_type,
            f"{run_type}-{socket.gethostname()}-{os.getpid()}-{str(me)[:8]}",
            slots,
            as_task_runs(execute, shown, client),
            bell,
            host=hosting.host if hosts else None,
            models=models,
            room=room,
            types=[*registry.task_types()],
            flow_run_id=me,
        )
        hosting.drain = worker.drain
        hosting.on_sigterm()
        helpers = [
            asyncio.create_task(coroutine)
            for coroutine in (
                bell.listen(),
                watcher.run(),
                _look_after(worker, hosting, shown),
                _follow_controls(worker, controls_read),
                _keep_fleet(client),
            )
        ]
        try:
            # What is paused is not claimed from the start; but nobody waits for a Prefect that is away.
            await asyncio.wait([asyncio.ensure_future(controls_read.wait())], timeout=CONTROLS_SECONDS)
            reason = await worker.run()
        finally:
            for helper in helpers:
                helper.cancel()
    if reason == CANCELLED:
        return Cancelled(message=f"{CANCELLED}; what it held was finished or handed back")
    if reason == RENEWAL and (successor := await asyncio.to_thread(fleet.replace_worker, run_type)):
        reason += f"; `{successor}` goes on"
    return Completed(message=f"{worker.done} tasks; {reason}")


def name_of_worker(run_type: str) -> Callable[[], str]:
    """Return what names the run of a worker flow: its pool, its machine, and a part of its id."""
    return lambda: f"{run_type} on {socket.gethostname()} {str(flow_run.id)[:8]}"


def use_login_of_workers() -> None:
    """From here on this process, and what it starts, connects with the login of workers, if there is one."""
    if url := get_settings().worker_database_url:
        os.environ["UNITASK_DATABASE_URL"] = url
        get_settings.cache_clear()


def as_task_runs(execute: Execute, shown: dict[UUID, Lease], client: PrefectClient) -> Execute:
    """Show each execution as a Prefect task run; that adds milliseconds, and waits for no server.

    While one lasts, `shown` has its lease by the id of the task run.
    """

    async def execute_and_show(task: ClaimedTask, reporter: Report) -> Output:
        begun = asyncio.Event()

        def report(progress: Progress) -> None:
            begun.set()
            reporter(progress)

        # The work is an asyncio task of its own: to cancel the task run that shows it would crash that.
        work = asyncio.ensure_future(execute(task, report))

        async def body() -> State[Any]:
            tag_this_task_run(task.task_type, f"project:{task.project_id}")
            run_id = this_task_run_id()
            _in_background(_link(client, task, run_id))
            crashpoint("task_run.begun")
            shown[run_id] = task.lease
            await asyncio.wait([work])
            del shown[run_id]
            return _shown_state(task, work)

        showing: Task[[], Coroutine[Any, Any, State[Any]]] = Task(
            fn=body,
            name=task.task_type,
            task_run_name=task.name,
            persist_result=False,
            cache_policy=NO_CACHE,
        )

        async def show() -> None:
            # A task for whose provider there is no room is claimed and handed back again and again: no run for that.
            if task.run_type == "api":
                first = asyncio.ensure_future(begun.wait())
                await asyncio.wait([work, first], return_when=asyncio.FIRST_COMPLETED)
                first.cancel()
            if not (work.done() and _lost_its_lease(work)):
                await showing(return_state=True)  # type: ignore[misc]

        _in_background(_through_outages(show(), f"show {task.name}"))
        return await work

    return execute_and_show


def _shown_state(task: ClaimedTask, work: asyncio.Future[Output]) -> State[Any]:
    attempt = f"attempt {task.attempt} of {task.max_attempts}"
    if work.cancelled():
        return Cancelled(message=f"{attempt}: stopped; it was cancelled, or its lease went to another worker")
    if _lost_its_lease(work):
        return Cancelled(message=f"{attempt}: stopped; {work.exception()}")
    if (error := work.exception()) is not None:
        reason = str(error) if isinstance(error, TaskError) else f"{type(error).__name__}: {error}"
        return Failed(message=f"{attempt}: {reason}")
    return Completed(message=f"{attempt}: {work.result().location}")


def _lost_its_lease(work: asyncio.Future[Output]) -> bool:
    return not work.cancelled() and isinstance(work.exception(), LeaseLostError)


def _in_background(coroutine: Coroutine[Any, Any, Any]) -> None:
    future = asyncio.ensure_future(coroutine)
    _background.add(future)
    future.add_done_callback(_background.discard)


async def _link(client: PrefectClient, task: ClaimedTask, task_run_id: UUID) -> None:
    """The row gets to know its task run; the task run says what it is about, and which orchestrator it is a part of."""

    async def link() -> None:
        run = report.Run(task_run_id=task_run_id)
        # The orchestrator's run may start after its first children: planting does not wait for Prefect.
        for _ in range(LINK_TRIES):
            parent = await asyncio.to_thread(leases.show_in_prefect, task.lease, task_run_id=task_run_id)
            if parent is None:
                return await report.show_claimed(client, run, task)
            if parent.flow_run_id is not None:
                return await report.show_claimed(
                    client, run, task, [report.link_to_run(parent.name, parent.flow_run_id)]
                )
            await asyncio.sleep(LINK_SECONDS)
        return None

    await _through_outages(link(), f"link {task.name}")


async def _look_after(worker: Worker, hosting: Hosting, shown: dict[UUID, Lease]) -> None:
    """Every second: what did people do in the UI, and how far are the hosted tasks?"""
    me = UUID(flow_run.id)

    async def look() -> None:
        await _follow_own_run(worker, hosting.client, me)
        if worker.host is not None:
            await mending.follow_people(hosting.client)
            for run_id in await deleted_of(hosting.client, list(hosting.hosted)):
                # A deleted run is no cancelled one: the task goes on, and is shown in a new run.
                if hosted := hosting.hosted.get(run_id):
                    hosted.stop.set()
            await mending.reopen_ended(hosting.client, hosting.hosted.__contains__, list(hosting.hosted))
        executing = dict(shown)
        for run_id in await asked_to_cancel_work(hosting.client, list(executing)):
            await asyncio.to_thread(leases.cancel_held, executing[run_id], CANCELLED)
        await hosting.show_progress()

    while True:
        await asyncio.sleep(LOOK_SECONDS)
        await _through_outages(look(), "look at Prefect")
        # A run that started meanwhile has put Prefect's own handler in the place of ours.
        hosting.on_sigterm()


async def _follow_own_run(worker: Worker, client: PrefectClient, run_id: UUID) -> None:
    """End in order when somebody cancelled, ended or deleted this worker's run; a single worker cannot be paused."""
    try:
        state = (await client.read_flow_run(run_id)).state
    except ObjectNotFound:
        return worker.drain("its run was deleted in the Prefect UI")
    assert state is not None
    if state.is_cancelling() or state.is_cancelled():
        return worker.drain(CANCELLED)
    if state.is_final():
        return worker.drain("its run was ended in the Prefect UI")
    if state.is_paused():
        await client.set_flow_run_state(run_id, Running(message=CANNOT_PAUSE), force=True)
    return None


async def _follow_controls(worker: Worker, read: asyncio.Event) -> None:
    """Every few seconds: what did people pause or limit in Prefect? While it is away, the last answer holds."""
    with api.client(timeout=CONTROLS_SECONDS) as client:
        while True:
            await _through_outages(follow_controls(client, worker, UUID(flow_run.id)), "read pauses and limits")
            read.set()
            await asyncio.sleep(CONTROLS_SECONDS)


async def _keep_fleet(client: PrefectClient) -> None:
    """Workers look after each other: one that died is replaced and its runs are closed, without maintenance."""
    while True:
        await _through_outages(asyncio.to_thread(fleet.ensure_workers), "look after the other workers")
        await _through_outages(mending.close_stale_runs(client, RECENT), "close the runs of the dead")
        await asyncio.sleep(FLEET_SECONDS)


async def _through_outages(call: Coroutine[Any, Any, Any], what: str) -> None:
    try:
        await call
    except (httpx.HTTPError, PrefectException, TaskError) as error:
        logger.warning("cannot %s for the moment: %s", what, str(error) or type(error).__name__)
    except Exception:
        # Nobody awaits what goes on in the background: a helper that ended would be missed by nobody.
        logger.exception("cannot %s, for a reason that nobody foresaw", what)
