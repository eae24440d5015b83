"""Pick-up: from the commit of a create to the start of its execution in a warm worker.

The peer is a plain Prefect process worker with its default settings on the same server in the same run: from
`run_deployment` to the first line of the flow.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from deployments.state import RunState
from tasks_lib import accounts, create_task
from tasks_lib.auth import issue_token
from tasks_lib.queue import wakeup
from tests.benchmarks.machine import fresh_platform

OURS = 60
PEERS = 6

# A worker flow like ours in every part, whose work is to say when it began.
WORKER = """
import asyncio, sys, time
from prefect import flow
from flows.worker import run_worker
from tasks_lib.queue import Output

async def execute(task, report):
    print("started", task.id, time.monotonic(), flush=True)
    return Output(None)

@flow(name="gpu-worker", persist_result=False)
async def warm_worker():
    return await run_worker({run_type!r}, 1, execute)

asyncio.run(warm_worker())
"""
PEER = """
import time
from prefect import flow

@flow
def peer(path: str) -> None:
    open(path, "w").write(str(time.monotonic()))
"""
TRIGGER = """
import sys, time
from prefect.deployments import run_deployment
began = time.monotonic()
run_deployment("peer/peer", parameters={"path": sys.argv[1]}, timeout=0, as_subflow=False)
print(began)
"""


def run() -> None:
    """Print both medians and their ratio."""
    with fresh_platform() as platform:
        ours = sorted(_ours(platform))
        peers = sorted(_peers(platform))
    median, peer = statistics.median(ours), statistics.median(peers)
    print(f"unitask, {len(ours)} creates one at a time: median {median * 1000:.0f} ms, p95 {ours[-4] * 1000:.0f} ms")
    print(f"plain Prefect process worker, {len(peers)} runs: median {peer:.1f} s, {peers[0]:.1f} to {peers[-1]:.1f} s")
    print(f"ratio of the medians: {peer / median:.0f}")


def _ours(platform: RunState) -> list[float]:
    project_id, token = project()
    committed: list[float] = []
    notify = wakeup.notify

    def noted(words: Any) -> None:
        committed.append(time.monotonic())
        notify(words)

    wakeup.notify = noted
    latencies = []
    try:
        with worker_process([sys.executable, "-c", WORKER.format(run_type="gpu")], platform) as worker:
            assert worker.stdout is not None
            for number in range(-3, OURS):  # three to warm up
                created = create_task(
                    "image_upscale", {"image_url": "https://example.com/a.png"}, project_id=project_id, token=token
                )
                while True:
                    words = worker.stdout.readline().split()
                    if words[:2] == ["started", str(created.task_id)]:
                        break
                if number >= 0:
                    latencies.append(float(words[2]) - committed[-1])
    finally:
        wakeup.notify = notify
    return latencies


def _peers(platform: RunState) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "peer.py").write_text(PEER)
        deploy = (
            "from prefect import flow\n"
            f"flow.from_source({folder!r}, 'peer.py:peer').deploy('peer', work_pool_name='plain')"
        )
        subprocess.run(
            [sys.executable, "-m", "prefect", "work-pool", "create", "plain", "--type", "process"],
            env=_environment(platform),
            check=True,
            capture_output=True,
        )
        subprocess.run([sys.executable, "-c", deploy], env=_environment(platform), check=True, capture_output=True)
        latencies = []
        with worker_process([sys.executable, "-m", "prefect", "worker", "start", "--pool", "plain"], platform):
            for number in range(-1, PEERS):
                mark = Path(folder) / f"started-{number}"
                asked = subprocess.run(
                    [sys.executable, "-c", TRIGGER, str(mark)],
                    env=_environment(platform),
                    check=True,
                    capture_output=True,
                    text=True,
                )
                while not (mark.exists() and mark.read_text()):
                    time.sleep(0.01)
                if number >= 0:
                    latencies.append(float(mark.read_text()) - float(asked.stdout))
        return latencies


def project() -> tuple[UUID, str]:
    """A project to create in, and a token."""
    user_id = accounts.ensure_user("bench")
    return accounts.ensure_project(user_id, "bench"), issue_token(user_id).secret.get_secret_value()


def _environment(platform: RunState) -> dict[str, str]:
    """The user's environment and the address of the server: Prefect's own defaults for all else."""
    return {**os.environ, "PREFECT_API_URL": platform.prefect_api_url, "PREFECT_SERVER_EPHEMERAL_ENABLED": "false"}


@contextmanager
def worker_process(command: list[str], platform: RunState) -> Iterator[subprocess.Popen[str]]:
    """A process that talks to the platform, ended after the block."""
    process = subprocess.Popen(
        command, env=_environment(platform), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        # A thousand runs take a while to be closed at the server.
        process.wait(300)
