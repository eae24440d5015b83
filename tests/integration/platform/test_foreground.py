"""What containers start: each ends when it is asked to, whatever is open, and says what it lacks."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from deployments import cli, processes
from tasks_lib import create_task
from tests.conftest import Owner, answers

PARAMS = {"image_urls": ["https://example.com/0.jpg"], "base_prompts": ["a walk"], "segment_frames": 9}
UNITASK = [sys.executable, "-c", "from tasks_lib.cli import main; main()"]


@contextmanager
def gateway() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The gateway in a process of its own, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen([*UNITASK, "gateway", "--port", str(port)]) as process:
        try:
            until = time.monotonic() + 60
            while not answers(f"http://127.0.0.1:{port}/health"):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def test_gateway_ends_when_a_stream_is_open(owner: Owner) -> None:
    create_task("travel_orchestrator", PARAMS, project_id=owner.project_id)
    headers = {"Authorization": f"Bearer {owner.token}"}
    with gateway() as (process, url):
        stream = f"{url}/v1/projects/{owner.project_id}/events?after=0"
        with httpx.stream("GET", stream, headers=headers, timeout=60) as response:
            next(response.iter_raw())
            process.send_signal(signal.SIGTERM)
            assert process.wait(cli.STREAM_SECONDS + 10) == -signal.SIGTERM


@pytest.mark.parametrize(("command", "variable"), [(["worker", "gpu"], "PREFECT_API_URL"), (["server"], "DATABASE")])
def test_what_is_missing_is_named_when_a_process_cannot_start(
    command: list[str], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", raising=False)
    done = subprocess.run([*UNITASK, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert variable in done.stderr
    assert "Traceback" not in done.stderr


def test_only_the_runs_of_one_worker_are_asked_when_it_drains() -> None:
    handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    run = f"import signal, sys; {handler}; print('up', flush=True); signal.pause()"
    found = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", run], env={processes.FLOW_RUN: "a run"}, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        found.append(process)
    ours, other = found
    try:
        # What has ended is buried by its parent, here as in a worker.
        reaper = threading.Thread(target=ours.wait)
        reaper.start()
        processes.drain(lambda: [psutil.Process(ours.pid)] if ours.returncode is None else [], 20)
        reaper.join()
        assert ours.returncode == 7
        assert other.poll() is None
    finally:
        for process in found:
            process.kill()
            process.wait()
            assert process.stdout
            process.stdout.close()
