"""The platform with real processes: brought up, hurt, registered to, and taken down without a rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx
import psutil
import pytest

from db import embedded
from deployments import processes
from deployments.deploy import deploy
from deployments.errors import PlatformError
from deployments.state import RunState, state
from deployments.supervisor import down, up
from flows import api

T = TypeVar("T")

PREFECT_YAML = """
pull:
- prefect.deployments.steps.set_working_directory: {directory: "{{ $UNITASK_ROOT }}"}
deployments:
"""
ENTRY = """
- name: %(name)s
  description: A flow of the tests.
  entrypoint: flows/toys.py:%(name)s
  tags: [unitask]
  version: "{{ $UNITASK_VERSION }}"
  work_pool: {name: api, work_queue_name: requests}
  schedules: %(schedules)s
"""
FLOWS = """
import os, signal, time
from pathlib import Path
from prefect import flow

@flow
def quick(folder: str = ".") -> None:
    assert Path.cwd() == Path(os.environ["UNITASK_ROOT"]), Path.cwd()

@flow
def gone() -> None:
    pass

@flow
def draining(folder: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: Path(folder, "asked").touch())
    Path(folder, "started").write_text(str(os.getpid()))
    while not Path(folder, "asked").exists():
        time.sleep(0.05)
    Path(folder, "drained").touch()
"""


UP = "import sys; from pathlib import Path; from deployments.supervisor import up; up(*map(Path, sys.argv[1:]))"
ONCE = "[{slug: often, interval: 3600}]"
TWICE = "[{slug: daily, interval: 86400}, {slug: often, interval: 3600}]"


def until(condition: Callable[[], T | Literal[False] | None], seconds: float = 60) -> T:
    """The first true answer of `condition`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def declare(root: Path, **schedules: str) -> None:
    """Make `root` a project with one deployment for each name, with these schedules."""
    (root / "flows").mkdir(exist_ok=True)
    (root / "flows" / "toys.py").write_text(FLOWS)
    entries = [ENTRY % {"name": name, "schedules": listed} for name, listed in schedules.items()]
    (root / "prefect.yaml").write_text(PREFECT_YAML + "".join(entries))


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="unitask-root-") as folder:
        declare(Path(folder), quick=TWICE, draining="[]", gone="[]")
        yield Path(folder).resolve()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="unitask-home-") as folder:
        for name in ("UNITASK_DATABASE_URL", "PREFECT_API_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("UNITASK_HOME", folder)
        try:
            yield Path(folder).resolve()
        finally:
            down(Path(folder))


@pytest.fixture
def run(home: Path, root: Path) -> RunState:
    """The platform, started by the first test that needs it and found by the others."""
    return up(home, root)


def call(run: RunState, path: str, **body: Any) -> Any:
    with api.client(run.prefect_api_url) as client:
        return client.post(path, json=body).raise_for_status().json()


def deployments(run: RunState) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in call(run, "/deployments/filter")}


def trigger(run: RunState, name: str, **parameters: object) -> Callable[[], str]:
    """Start a run of a deployment; what is returned asks for the type of its state."""
    body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    flow_run = call(run, f"/deployments/{deployments(run)[name]['id']}/create_flow_run", **body)

    def state_type() -> str:
        return str(call(run, "/flow_runs/filter", flow_runs={"id": {"any_": [flow_run["id"]]}})[0]["state_type"])

    return state_type


def answering(run: RunState) -> bool:
    with api.client(run.prefect_api_url, timeout=5) as client:
        return api.answers(client, "/ready")


def other_pid(home: Path, name: str, pid: int) -> RunState | None:
    now = state(home)
    return now if now and now.pids.get(name, pid) != pid else None


def test_nothing_new_is_started_when_up_is_repeated_from_several_processes(home: Path, root: Path) -> None:
    command = [sys.executable, "-c", UP, str(home), str(root)]
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _: subprocess.run(command, capture_output=True, text=True, check=False), range(2)))
    assert [process.returncode for process in done] == [0, 0], done[0].stderr
    run = up(home, root)
    assert set(run.pids) == {"supervisor", "postgres", "server", "gpu-worker", "api-worker"}
    assert {process.pid for process in processes.marked(home)} == set(run.pids.values()) - {
        run.pids["supervisor"],
        run.pids["postgres"],
    }
    assert answering(run)
    assert httpx.get(run.prefect_ui_url, follow_redirects=True).is_success
    assert (home / "run.json").stat().st_mode & 0o077 == 0


def test_a_second_deploy_changes_nothing_and_a_third_removes_what_left_the_file(run: RunState, root: Path) -> None:
    assert deploy(root=root).changed
    stranger = deployments(run)["quick"]
    call(run, "/deployments/", name="theirs", flow_id=stranger["flow_id"], tags=["other"])
    began = time.monotonic()
    again = deploy(root=root)
    assert (again.changed, again.removed) == (False, ())
    assert time.monotonic() - began < 5
    declare(root, quick=ONCE, draining="[]")
    assert set(deploy(root=root).removed) == {"gone", "quick/daily"}
    found = deployments(run)
    assert set(found) == {"quick", "draining", "theirs"}
    assert [schedule["slug"] for schedule in found["quick"]["schedules"]] == ["often"]


def test_runs_happen_when_triggered_and_when_scheduled(run: RunState, root: Path) -> None:
    deploy(root=root)
    state_type = trigger(run, "quick")
    planned = {"tags": {"all_": ["auto-scheduled"]}}
    until(lambda: call(run, "/flow_runs/filter", flow_runs=planned))
    until(lambda: state_type() not in {"SCHEDULED", "PENDING", "RUNNING"})
    assert state_type() == "COMPLETED"


def test_deploy_refuses_when_a_key_is_misspelt(run: RunState, root: Path) -> None:
    text = (root / "prefect.yaml").read_text()
    try:
        (root / "prefect.yaml").write_text(text.replace("description:", "descriptoin:"))
        with pytest.raises(PlatformError, match=r"`quick`: `descriptoin` .* did you mean `description`"):
            deploy(root=root)
    finally:
        (root / "prefect.yaml").write_text(text)


def test_everything_comes_back_when_the_server_postgres_and_a_worker_are_killed(run: RunState, home: Path) -> None:
    for name in ("server", "postgres", "gpu-worker"):
        os.kill(run.pids[name], signal.SIGKILL)
    for name in ("server", "postgres", "gpu-worker"):
        until(lambda name=name: other_pid(home, name, run.pids[name]))  # type: ignore[misc]
    until(lambda: answering(run))
    now = state(home)
    assert now
    assert now.prefect_api_url == run.prefect_api_url
    assert now.pids["api-worker"] == run.pids["api-worker"]


def test_a_flow_run_may_finish_and_nothing_is_left_when_the_platform_goes_down(
    run: RunState, home: Path, root: Path, tmp_path: Path
) -> None:
    deploy(root=root)
    trigger(run, "draining", folder=str(tmp_path))
    engine = int(until(lambda: (tmp_path / "started").exists() and (tmp_path / "started").read_text()))
    family = [psutil.Process(pid) for pid in {*run.pids.values(), engine}]
    down(home)
    assert (tmp_path / "drained").exists()
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert processes.marked(home) == []
    assert embedded.pid(home) is None
    assert state(home) is None
    down(home)


def test_down_ends_the_rest_when_the_supervisor_was_killed(home: Path, root: Path) -> None:
    down(home)
    with subprocess.Popen(
        [sys.executable, "-c", UP, str(home), str(root)], stderr=subprocess.PIPE, text=True
    ) as starter:
        run = until(lambda: (found := state(home)) and "server" in found.pids and found)
        os.kill(run.pids["supervisor"], signal.SIGKILL)
        _, error = starter.communicate(timeout=30)
    assert "PlatformError" in error
    assert {process.pid for process in processes.marked(home)} >= {run.pids["server"], run.pids["api-worker"]}
    down(home)
    assert processes.marked(home) == []
    assert embedded.pid(home) is None


def test_up_shows_the_log_when_the_server_cannot_start(home: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    down(home)
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_TIMEOUT", "nonsense")
    with pytest.raises(PlatformError, match=r"(?s)server ended while it started.*nonsense"):
        up(home, root)
    assert processes.marked(home) == []
    assert embedded.pid(home) is None


def test_the_command_line_answers_without_a_traceback_when_nothing_runs(home: Path) -> None:
    down(home)
    for command, expected in (("status", 1), ("deploy", 1), ("down", 0)):
        code = "from deployments.cli import app; app()"
        done = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, check=False)
        assert done.returncode == expected, done.stderr
        assert "Traceback" not in done.stderr
    done = subprocess.run(
        [sys.executable, "-c", code, "status", "-o", "json"], capture_output=True, text=True, check=False
    )
    assert json.loads(done.stdout)["ready"] is False
