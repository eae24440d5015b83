"""Watchers see every event once and in order, whatever the order of commits and whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from db import tables
from tasks_lib import (
    Event,
    cancel_task,
    database,
    last_event_id,
    retry_task,
    wait_for_task,
    watch,
    watch_project,
    watch_project_async,
    watch_task,
    watch_task_async,
)
from tasks_lib.auth import issue_token, revoke_token
from tasks_lib.errors import AuthenticationError, EngineError, NotFoundError
from tasks_lib.events import ProjectReader, TaskReader
from tasks_lib.queue import Lease, Output, complete, fail
from tasks_lib.settings import get_settings
from tests.conftest import Owner, make_owner
from tests.integration.watcher import follow, seen
from tests.races.sessions import claim, create_rows, make_tasks, wait_until

KILLS = 100 if "UNITASK_TEST_LONG" in os.environ else 10


@contextmanager
def open_transaction(number: bool = True) -> Iterator[Connection]:
    """A transaction that is open during the block and has its number; undone unless the block commits it."""
    with database.get_engine().connect() as connection:
        if number:
            connection.execute(sa.text("SELECT pg_current_xact_id()"))
        yield connection


def create_in(connection: Connection, owner: Owner) -> None:
    create = create_rows(owner.project_id)
    database.call_in(connection, *create.args, **create.keywords)


def stored_ids(owner: Owner) -> list[int]:
    e = tables.task_events
    with database.transaction() as connection:
        return list(connection.scalars(sa.select(e.c.id).where(e.c.project_id == owner.project_id).order_by(e.c.id)))


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


@pytest.mark.parametrize("is_undone", [False, True])
def test_later_event_waits_when_a_transaction_with_an_earlier_one_is_open(owner: Owner, is_undone: bool) -> None:
    reader = ProjectReader(owner.project_id)
    with open_transaction() as connection:
        create_in(connection, owner)
        (task,) = make_tasks(owner)
        for _ in range(2):
            page = reader.read()
            assert (page.events, page.unsettled) == ([], True)
        assert len(TaskReader(task).read().events) == 1, "events of one task need not wait"
        if not is_undone:
            connection.commit()
    page = reader.read()
    assert [event.id for event in page.events] == stored_ids(owner)
    assert (len(page.events), page.unsettled) == (1 if is_undone else 2, False)


@pytest.mark.parametrize("first", [0, 1])
def test_event_waits_when_an_open_transaction_has_a_lower_id_whichever_is_older(owner: Owner, first: int) -> None:
    """The number of the event's own transaction is no fence: the one to wait for may be the younger."""
    reader = ProjectReader(owner.project_id)
    with open_transaction() as older, open_transaction() as younger:
        pair = (older, younger) if first == 0 else (younger, older)
        create_in(pair[0], owner)
        create_in(pair[1], owner)
        pair[1].commit()
        for _ in range(2):
            assert reader.read().events == []
        pair[0].commit()
    assert [event.id for event in reader.read().events] == stored_ids(owner)


def test_events_are_told_when_others_keep_writing(owner: Owner) -> None:
    reader, other = ProjectReader(owner.project_id), make_owner("somebody else")
    first, second = open_transaction(), open_transaction()
    with first as connection:
        create_in(connection, other)
        make_tasks(owner)
        assert reader.read().events == []
        create_in(second.__enter__(), other)
    assert len(reader.read().events) == 1, "nobody who came later is waited for"
    second.__exit__(None, None, None)


def test_events_are_told_when_only_transactions_that_write_none_are_open(owner: Owner) -> None:
    elsewhere = sa.create_engine(sa.make_url(database.database_url()).set(database="postgres"))
    with elsewhere.connect() as other_database, open_transaction() as connection:
        other_database.execute(sa.text("SELECT pg_current_xact_id()"))
        connection.execute(sa.update(tables.users).values(name="another"))
        connection.execute(sa.select(tables.task_events.c.id)).all()
        start = last_event_id(owner.project_id)
        make_tasks(owner)
        assert len(ProjectReader(owner.project_id, start).read().events) == 1
    elsewhere.dispose()


def test_reader_cannot_hold_events_back_when_it_may_only_read(owner: Owner) -> None:
    with open_transaction() as connection:
        connection.execute(sa.text("SET LOCAL ROLE unitask_reader"))
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            connection.execute(sa.text("LOCK TABLE task_events IN ROW EXCLUSIVE MODE"))


def test_beginning_waits_when_a_transaction_is_open(owner: Owner) -> None:
    with open_transaction() as connection, ThreadPoolExecutor(1) as pool:
        create_in(connection, owner)
        make_tasks(owner)
        start = pool.submit(last_event_id, owner.project_id)
        with pytest.raises(TimeoutError):
            start.result(0.2)
        connection.commit()
        assert start.result(10) == max(stored_ids(owner))


def test_task_is_followed_to_its_end_when_it_is_retried_and_completed(owner: Owner) -> None:
    (task,) = make_tasks(owner)
    (claimed,) = claim()
    fail(claimed.lease, EngineError("no"))
    before = list(watch_task(task, timeout=10))
    assert kinds(before) == ["created", "processing", "failed"]
    assert before[-1].data["error_message"] == "no"
    assert list(watch_task(task, after=before[-1].id, timeout=10)) == []
    retry_task(task)
    after = watch_task(task, after=before[-1].id, timeout=10)
    assert next(after).kind == "pending"
    (claimed,) = claim()
    complete(claimed.lease, Output("film.mp4"))
    assert [(event.kind, event.status) for event in after] == [("processing", "Processing"), ("complete", "Complete")]
    assert wait_for_task(task, timeout=5).status == "Complete"


def test_watch_ends_with_an_error_when_its_time_is_over_or_the_task_is_gone(owner: Owner) -> None:
    (task,) = make_tasks(owner)
    with pytest.raises(TimeoutError):
        wait_for_task(task, timeout=0.2)
    watching = watch_task(task)
    assert next(watching).kind == "created"
    with database.transaction() as connection:
        connection.execute(sa.delete(tables.tasks).where(tables.tasks.c.id == task))
    with pytest.raises(NotFoundError):
        next(watching)
    with pytest.raises(TimeoutError):
        list(watch_project(owner.project_id, timeout=0.2))


def test_watch_ends_when_its_token_is_revoked(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "TRUST_SECONDS", 0.1)
    token = issue_token(owner.user_id)
    make_tasks(owner)
    watching = watch_project(owner.project_id, after=0, token=token.secret)
    assert next(watching).kind == "created"
    revoke_token(token.prefix)
    with pytest.raises(AuthenticationError):
        next(watching)


def test_project_is_missing_when_it_is_somebody_elses(owner: Owner) -> None:
    other = make_owner("somebody else")
    make_tasks(other)
    for project_id in (other.project_id, "nothing"):
        with pytest.raises(NotFoundError):
            next(watch_project(project_id, after=0))


def test_async_watchers_see_what_sync_ones_see_when_both_follow_a_run(owner: Owner) -> None:
    start = last_event_id(owner.project_id)
    tasks = make_tasks(owner, 3)

    async def project() -> list[Event]:
        found = []
        async for event in watch_project_async(owner.project_id, after=start):
            found.append(event)
            if sum(event.kind == "complete" for event in found) == len(tasks):
                break
        return found

    async def main() -> tuple[list[Event], list[Event]]:
        async with asyncio.timeout(20):
            following = asyncio.ensure_future(project())
            one = asyncio.ensure_future(collect(watch_task_async(tasks[0])))
            for claimed in await asyncio.to_thread(claim):
                await asyncio.to_thread(complete, claimed.lease, Output("film.mp4"))
            return await following, await one

    async def collect(events: Any) -> list[Event]:
        return [event async for event in events]

    of_project, of_task = asyncio.run(main())
    assert [event.id for event in of_project] == stored_ids(owner)
    assert of_task == [event for event in of_project if event.task_id == tasks[0]] == list(watch_task(tasks[0]))


def test_nothing_is_lost_when_all_connections_are_cut_and_the_watcher_is_slow(owner: Owner) -> None:
    cut = sa.text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    watching = watch_project(owner.project_id, after=0, timeout=20)
    found, were_cut = [], []
    for _ in range(3):
        make_tasks(owner, 5)
        found.append(next(watching))
        with database.get_engine().connect() as connection:
            were_cut.append(connection.scalar(cut))
            connection.invalidate()
        make_tasks(owner, 5)
        found += [next(watching) for _ in range(9)]
    assert sum(were_cut) > 0
    assert [event.id for event in found] == stored_ids(owner)


def test_every_event_is_seen_once_and_in_order_when_the_watcher_is_killed_again_and_again(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers commit in another order than they take ids; ten kills here, a hundred with UNITASK_TEST_LONG."""
    # The writers are busier than people.
    monkeypatch.setenv("UNITASK_CHANGE_CALLS_PER_MINUTE", "1000000")
    get_settings.cache_clear()
    processes = get_context("forkserver")
    processes.set_forkserver_preload(["__main__", "tasks_lib.watch", "sqlalchemy.dialects.postgresql.psycopg"])
    stop = threading.Event()
    writers = [threading.Thread(target=write, args=(owner, seed, stop)) for seed in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "seen"
        journal.touch()
        follows = (database.database_url(), owner.token, owner.project_id)

        def watcher() -> Any:
            process = processes.Process(target=follow, args=(*follows, journal))
            process.start()
            return process

        for writer in writers:
            writer.start()
        began = time.monotonic()
        try:
            for _ in range(KILLS):
                before = len(seen(journal))
                process = watcher()
                # In the middle of its work, at any point of it.
                try:
                    wait_until(partial(has_grown, journal, before))
                    time.sleep(random.uniform(0, 0.2))
                finally:
                    os.kill(process.pid, signal.SIGKILL)
                    process.join()
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        process, expected = watcher(), stored_ids(owner)
        try:
            wait_until(lambda: len(seen(journal)) >= len(expected))
        finally:
            process.kill()
            process.join()
        print(f"{KILLS} kills in {time.monotonic() - began:.0f} seconds, {len(expected)} events")
        assert seen(journal) == expected
        assert len(expected) > 10 * KILLS


def has_grown(journal: Path, before: int) -> bool:
    return len(seen(journal)) > before


def write(owner: Owner, seed: int, stop: threading.Event) -> None:
    """Lives of tasks in transactions that stay open for a while, some of them undone."""
    chance = random.Random(seed)

    def slowly(act: Callable[[Connection], Any]) -> None:
        with open_transaction(number=chance.random() < 0.5) as connection:
            act(connection)
            time.sleep(chance.choice([0.01, 0.03, 0.2]))
            act(connection)
            if chance.random() < 0.9:
                connection.commit()

    while not stop.is_set():
        slowly(lambda connection: create_in(connection, owner))
        for claimed in claim(worker=f"worker {seed}", limit=2):
            finish(claimed.lease, chance)


def finish(lease: Lease, chance: random.Random) -> None:
    ends: list[Callable[[], Any]] = [
        lambda: complete(lease, Output("film.mp4")),
        lambda: fail(lease, EngineError("no", retryable=chance.random() < 0.5)),
        lambda: cancel_task(lease.task_id),
    ]
    chance.choice(ends)()
