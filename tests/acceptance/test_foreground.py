"""The processes of containers, started and ended as those do it: they make a film, and hand back what they held."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from PIL import Image

from db import embedded, tables
from flows import fleet
from tasks_lib import create_travel_between_images_task, database, get_task, upload_media
from tasks_lib.settings import get_settings
from tests.conftest import Owner, answers, forget_engine, make_owner

UNITASK = [sys.executable, "-c", "from tasks_lib.cli import main; main()"]
DRAIN_SECONDS = 1


class Processes:
    """What `unitask` runs in the foreground, in one environment; all of it is ended with the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one, as the first process of a group of its own."""
        process = subprocess.Popen([*UNITASK, *arguments], start_new_session=True)
        self._stack.callback(end, process)
        return process


def end(process: subprocess.Popen[bytes], seconds: float = 60) -> int:
    """Ask a process to end, as a container is asked, and answer its exit code."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Processes, Owner]]:
    """Postgres, and a server of Prefect with everything registered, but no worker yet."""
    server = embedded.start(tmp_path / "postgres")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    api_url = f"http://127.0.0.1:{port}/api"
    for name, value in {
        "UNITASK_HOME": str(tmp_path / "home"),
        "UNITASK_DATABASE_URL": embedded.ensure_database(server, "tasks"),
        "UNITASK_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": embedded.ensure_database(server, "prefect"),
        "PREFECT_API_URL": api_url,
    }.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    forget_engine()
    with ExitStack() as stack:
        stack.callback(embedded.stop, tmp_path / "postgres")
        stack.callback(forget_engine)
        processes = Processes(stack)
        processes.start("server", "--port", str(port))
        until(lambda: answers(f"{api_url}/health"))
        subprocess.run([*UNITASK, "deploy"], check=True)
        owner = make_owner("creator")
        monkeypatch.setenv("UNITASK_TOKEN", owner.token)
        get_settings.cache_clear()
        yield processes, owner
    get_settings.cache_clear()


def travel(owner: Owner, folder: Path, size: int, frames: int) -> UUID:
    """A travel through two pictures."""
    references = []
    for i in range(2):
        path = folder / f"{size}-{i}.png"
        Image.linear_gradient("L").rotate(20 * i).resize((size, size)).convert("RGB").save(path)
        references.append(upload_media(path, project_id=owner.project_id))
    request = {"image_urls": references, "base_prompts": ["turning"], "segment_frames": frames}
    return create_travel_between_images_task(
        request | {"project_id": str(owner.project_id), "resolution": f"{size}x{size}"}
    ).task_id


def running(travel_id: UUID) -> list[UUID]:
    """The travel's segments that a worker has."""
    t = tables.tasks
    with database.transaction() as connection:
        return list(
            connection.scalars(
                sa.select(t.c.id).where(t.c.parent_task_id == travel_id, t.c.status == "Processing", ~t.c.hosted)
            )
        )


def test_film_is_made_and_work_handed_back_when_containers_run_and_end(
    platform: tuple[Processes, Owner], tmp_path: Path
) -> None:
    processes, owner = platform
    api, gpu = (processes.start("worker", pool) for pool in ("api", "gpu"))
    fleet.ensure_workers(minimum={"gpu": 1, "api": 1})
    small = travel(owner, tmp_path, 64, 5)
    until(lambda: get_task(small).is_final)
    assert get_task(small).status == "Complete"

    large = travel(owner, tmp_path, 1280, 81)
    until(lambda: running(large))
    (segment,) = running(large)
    began = time.monotonic()
    assert end(gpu) == 0
    assert time.monotonic() - began < 40, "longer than containers are given"
    handed_back = get_task(segment)
    assert (handed_back.status, handed_back.attempt) == ("Pending", 0)

    processes.start("worker", "gpu")
    fleet.ensure_workers(minimum={"gpu": 1})
    until(lambda: get_task(large).is_final)
    assert get_task(large).status == "Complete"
    assert get_task(segment).attempt == 1
    assert end(api) == 0
