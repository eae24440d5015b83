"""What fails around a worker, and heals: Postgres, storage, the listener; and what does not heal."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa

from db import embedded, tables
from db.migrate import upgrade
from tasks_lib import database, storage
from tasks_lib.errors import StorageError
from tasks_lib.queue import ClaimedTask, Output, wakeup
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.worker import Report, Worker
from tasks_lib.settings import get_settings
from tasks_lib.types import table
from tests.conftest import Owner, make_owner
from tests.races.sessions import check_ledger, make_tasks, row_of, wait_until

Execute = Callable[[ClaimedTask, Report], Awaitable[Output]]
ROOT = Path(__file__).parents[2]
UNSHARE = ("unshare", "--map-root-user", "--mount")
PLACEMENT = {"as": "generation", "type": "video"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short intervals, so that tests need not wait for them."""
    monkeypatch.setenv("UNITASK_LEASE_SECONDS", "10")
    monkeypatch.setenv("UNITASK_HEARTBEAT_SECONDS", "0.3")
    monkeypatch.setenv("UNITASK_POLL_SECONDS", "0.2")
    get_settings.cache_clear()


@pytest.fixture
def own_server(quick: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Postgres that this test alone uses, by the folder that it lives in."""
    with tempfile.TemporaryDirectory(prefix="unitask-outage-") as folder:
        home = Path(folder)
        url = embedded.ensure_database(embedded.start(home), database.DATABASE_NAME)
        try:
            upgrade(url)
            monkeypatch.setenv("UNITASK_DATABASE_URL", url)
            get_settings.cache_clear()
            database.get_engine.cache_clear()
            table.sync(database.get_engine())
            yield home
        finally:
            database.get_engine().dispose()
            database.get_engine.cache_clear()
            embedded.stop(home)
            get_settings.cache_clear()


@asynccontextmanager
async def working(*executes: Execute, slots: int = 4) -> AsyncIterator[None]:
    """Workers of the gpu pool at work; they are drained at the end."""
    bell = Bell()
    workers = [Worker("gpu", f"gpu-{os.urandom(2).hex()}", slots, execute, bell) for execute in executes]
    listening = asyncio.create_task(bell.listen())
    running = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield
    finally:
        for worker in workers:
            worker.drain("the test is over")
        await asyncio.gather(*running)
        listening.cancel()


async def until_ended(tasks: list[UUID], seconds: float = 90) -> None:
    """Wait until tasks have ended, through times when nobody can be asked."""
    t = tables.tasks
    open_ones = sa.select(sa.func.count()).where(t.c.id.in_(tasks), t.c.status.in_(("Pending", "Processing")))

    def left() -> int:
        with database.transaction() as connection:
            return connection.execute(open_ones).scalar_one()

    async with asyncio.timeout(seconds):
        while await asyncio.to_thread(left):  # noqa: ASYNC110  other sessions make it true
            await asyncio.sleep(0.1)


async def a_moment(task: ClaimedTask, report: Report) -> Output:
    await asyncio.sleep(0.1)
    return Output(f"{task.id}.mp4")


def test_nothing_is_lost_or_doubled_when_postgres_restarts_under_load(own_server: Path) -> None:
    owner = make_owner()
    tasks = make_tasks(owner, 150, placement=PLACEMENT, hold="1")

    async def main() -> None:
        async with working(a_moment, a_moment):
            for _ in range(2):
                await asyncio.sleep(1)
                await asyncio.to_thread(embedded.stop, own_server)
                await asyncio.sleep(0.5)
                await asyncio.to_thread(embedded.start, own_server)
            await until_ended(tasks)

    asyncio.run(main())
    rows = [row_of(task) for task in tasks]
    assert {(row.status, row.attempt) for row in rows} == {("Complete", 1)}
    with database.transaction() as connection:
        made = connection.scalars(sa.select(tables.generation_variants.c.task_id)).all()
    assert sorted(made) == sorted(tasks)
    check_ledger()


def test_task_completes_when_storage_failed_and_healed(quick: None, owner: Owner, tmp_path: Path) -> None:
    folder = Path(get_settings().resolved_storage_url.removeprefix("file://"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A file where the folder should be: every write fails until it is gone.
    folder.write_text("no folder")
    video = tmp_path / "film.mp4"
    video.write_bytes(b"frames")
    (task,) = make_tasks(owner, placement=PLACEMENT)

    async def store(task: ClaimedTask, report: Report) -> Output:
        key = storage.output_key(task.project_id, task.id, task.lease_id, "film.mp4")
        try:
            await asyncio.to_thread(storage.put, video, key)
        except StorageError:
            folder.unlink()  # noqa: ASYNC240  instant
            raise
        return Output(key)

    async def main() -> None:
        async with working(store):
            await until_ended([task])

    asyncio.run(main())
    row = row_of(task)
    assert (row.status, row.attempt) == ("Complete", 2)
    assert storage.exists(row.output_location)


def test_outputs_are_stored_at_the_first_attempt_when_a_full_disk_gets_room(
    quick: None, owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a small disk of one's own needs user namespaces here")
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.mkdir()
    monkeypatch.setenv("UNITASK_STORAGE_URL", f"file://{disk}/storage")
    filled = 'mount -t tmpfs -o size=1m none "$0" && head -c 1000000 /dev/zero > "$0/ballast" && exec "$@"'
    command = [*UNSHARE, "sh", "-c", filled, str(disk), sys.executable, "-m", "tests.integration.storing_worker"]
    tasks = make_tasks(owner, 3, placement=PLACEMENT, hold="1")
    with log.open("wb") as output, subprocess.Popen(command, cwd=ROOT, stderr=output) as worker:
        try:
            wait_until(lambda: "No space left on device" in log.read_text())
            # Everything else goes on, and nothing is final.
            tasks += make_tasks(owner, 2, placement=PLACEMENT, hold="1")
            assert {row_of(task).status for task in tasks} <= {"Pending", "Processing"}
            # The disk is mounted for that process only.
            seen = Path(f"/proc/{worker.pid}/root{disk}")
            (seen / "ballast").unlink()
            asyncio.run(until_ended(tasks))
            assert sorted(seen.rglob("*.*")) == sorted(
                seen / "storage" / row_of(task).output_location for task in tasks
            )
        finally:
            worker.kill()
    assert {(row_of(task).status, row_of(task).attempt) for task in tasks} == {("Complete", 1)}
    check_ledger()


def test_task_goes_on_when_a_storage_did_not_answer(
    quick: None, owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_STORAGE_SECONDS", "0.5")
    get_settings.cache_clear()
    key = f"{owner.project_id}/uploads/picture.png"
    stored = Path(storage.url(key).removeprefix("file://"))
    stored.parent.mkdir(parents=True)
    # Whoever opens it waits for a writer that never comes.
    os.mkfifo(stored)
    (task,) = make_tasks(owner, placement=PLACEMENT)
    told: list[str] = []

    def heal() -> None:
        stored.unlink()
        stored.write_bytes(b"pixels")

    async def fetch(task: ClaimedTask, report: Report) -> Output:
        try:
            await asyncio.to_thread(storage.fetch, key, tmp_path / "picture.png")
        except StorageError as error:
            told.append(str(error))
            heal()
            raise
        return Output(key)

    async def main() -> None:
        async with working(fetch):
            await until_ended([task])

    asyncio.run(main())
    assert told == [f"cannot fetch `{key}`: no answer in 0.5 seconds"]
    assert (row_of(task).status, row_of(task).attempt) == ("Complete", 2)


def test_work_goes_on_when_the_listener_is_cut_off(quick: None, owner: Owner) -> None:
    cut = sa.text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )

    def cut_off() -> int:
        with database.transaction() as connection:
            return int(connection.execute(cut).scalar_one())

    async def main() -> None:
        async with working(a_moment):
            for _ in range(2):
                tasks = await asyncio.to_thread(make_tasks, owner, 5)
                await until_ended(tasks)
                assert {row_of(task).status for task in tasks} == {"Complete"}
                # It listens, and after the first cut listens again.
                async with asyncio.timeout(20):
                    while not await asyncio.to_thread(cut_off):  # noqa: ASYNC110  the condition is in Postgres
                        await asyncio.sleep(0.1)

    asyncio.run(main())


def test_vacuum_is_not_held_back_when_a_listener_does_not_read(quick: None, owner: Owner) -> None:
    held_back = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        " AND wait_event = 'ClientWrite' AND backend_xmin IS NOT NULL"
    )
    shout = sa.text("SELECT count(pg_notify(:channel, repeat('x', 4000) || i)) FROM generate_series(1, 200) i")

    def deaf_sessions() -> int:
        with database.transaction() as connection:
            return int(connection.execute(held_back).scalar_one())

    def shouted_down() -> int:
        with database.transaction() as connection:
            connection.execute(shout, {"channel": wakeup.CHANNEL})
        return deaf_sessions()

    url = sa.make_url(get_settings().database_url).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as deaf:
        deaf.execute(f"LISTEN {wakeup.CHANNEL}")
        wait_until(shouted_down)
        # Claims and completions go on all the while, and the others hear.
        tasks = make_tasks(owner, 5)

        async def main() -> None:
            async with working(a_moment):
                await until_ended(tasks)

        asyncio.run(main())
        assert wakeup.end_deaf_listeners() == 0, "a slow one is not a dead one"
        assert wakeup.end_deaf_listeners(seconds=0.1) == 1
        wait_until(lambda: not deaf_sessions())


def test_task_fails_and_frees_its_slot_when_its_result_cannot_be_stored(quick: None, owner: Owner) -> None:
    (doomed,) = make_tasks(owner, placement=PLACEMENT, hold="1")
    (next_one,) = make_tasks(owner)

    async def execute(task: ClaimedTask, report: Report) -> Output:
        # Postgres takes no null character.
        return Output("film.mp4", {"notes": "\0"} if task.id == doomed else {})

    async def main() -> None:
        async with working(execute, slots=1):
            await until_ended([doomed, next_one])

    asyncio.run(main())
    assert [row_of(task).status for task in (doomed, next_one)] == ["Failed", "Complete"]
    assert "cannot be stored" in row_of(doomed).error_message
    check_ledger()
