"""What people set in Prefect, by the UI's own requests, stays or is named, whatever is registered or started."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.deploy import Deployed, deploy
from deployments.state import RunState
from deployments.supervisor import down, up
from flows import api
from tests.acceptance.test_platform import ENTRY, FLOWS, PREFECT_YAML

NIGHTLY = '[{slug: nightly, cron: "0 3 * * *", timezone: UTC, active: false}]'
LEFT = """
@flow
def left() -> None:
    pass
"""
OFTEN = "[{slug: often, interval: 3600}, {slug: daily, interval: 86400}, {slug: weekly, interval: 604800}]"


class Project:
    """A project of its own with a platform: its file says something new each time that it is written."""

    def __init__(self, home: Path, root: Path) -> None:
        self.home, self.root, self.run = home, root, None

    home: Path
    root: Path
    run: RunState | None

    def write(self, version: str, description: str = "A flow of the tests.", **schedules: str) -> None:
        (self.root / "flows").mkdir(exist_ok=True)
        (self.root / "flows" / "toys.py").write_text(f"{FLOWS}\n{LEFT}\n# {version}")
        entries = [ENTRY % {"name": name, "schedules": listed} for name, listed in schedules.items()]
        text = PREFECT_YAML + "".join(entries).replace("A flow of the tests.", description)
        (self.root / "prefect.yaml").write_text(text)

    def up(self) -> None:
        self.run = up(self.home, self.root)

    def deploy(self, *, dry_run: bool = False) -> Deployed:
        return deploy(self.home, self.root, dry_run=dry_run)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        assert self.run
        with api.client(self.run.prefect_api_url) as client:
            answer = client.request(method, path, json=body).raise_for_status()
            return answer.json() if answer.content else None

    def deployments(self) -> dict[str, Any]:
        return {row["name"]: row for row in self.send("POST", "/deployments/filter", {})}

    def schedules(self, name: str) -> dict[str | None, Any]:
        return {schedule["slug"]: schedule for schedule in self.deployments()[name]["schedules"]}


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    home, root = (Path(tempfile.mkdtemp(prefix=f"unitask-{name}-")).resolve() for name in ("home", "root"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("UNITASK_DATABASE_URL", "PREFECT_API_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("UNITASK_HOME", str(home))
        made = Project(home, root)
        made.write("1", quick=NIGHTLY, gone="[]", left="[]", draining=OFTEN)
        try:
            made.up()
            made.deploy()
            yield made
        finally:
            down(home)
            shutil.rmtree(home)
            shutil.rmtree(root)


def set_by_a_person(project: Project) -> dict[str, Any]:
    """Set what a person can set, as Prefect's UI does; what is seen of it then."""
    quick = project.deployments()["quick"]
    path = f"/deployments/{quick['id']}"
    nightly = project.schedules("quick")["nightly"]
    changed = {"active": True, "schedule": {"cron": "30 4 * * *", "timezone": "Europe/Berlin", "day_or": True}}
    project.send("PATCH", f"{path}/schedules/{nightly['id']}", changed)
    own = {"active": True, "schedule": {"interval": 7200}, "parameters": {"folder": "mine"}}
    project.send("POST", f"{path}/schedules", [own])
    project.send("PATCH", path, {"parameters": {"folder": "theirs"}})
    project.send("PATCH", path, {"concurrency_limit": 3, "tags": ["unitask", "mine"], "description": "What it is for."})
    project.send("PATCH", path, {"job_variables": {"env": {"A": "b"}}})
    project.send("POST", f"{path}/pause_deployment")
    project.send("PATCH", "/work_pools/api", {"concurrency_limit": 7, "description": "My machines."})
    template = project.send("GET", "/work_pools/api")["base_job_template"]
    template["variables"]["properties"]["stream_output"]["default"] = False
    project.send("PATCH", "/work_pools/api", {"base_job_template": template})
    project.send("PATCH", "/work_pools/gpu", {"is_paused": True})
    project.send("PATCH", "/work_pools/api/queues/requests", {"concurrency_limit": 2, "is_paused": True})
    project.send("POST", "/work_pools/api/queues", {"name": "mine", "priority": 1})
    project.send("POST", "/variables/", {"name": "mine", "value": 1})
    project.send("POST", "/v2/concurrency_limits/", {"name": "mine", "limit": 2, "active": False})
    body = {"name": "mine", "flow_id": quick["flow_id"], "tags": ["unitask"]}
    project.send("POST", "/deployments/", body)
    return seen(project)


def seen(project: Project) -> dict[str, Any]:
    """All that a person set, as it is now."""
    quick = project.deployments()["quick"]
    settings = ("parameters", "global_concurrency_limit", "tags", "description", "job_variables", "paused")
    schedules = [{k: s[k] for k in ("id", "active", "schedule", "parameters")} for s in quick["schedules"]]
    pools = {name: project.send("GET", f"/work_pools/{name}") for name in ("api", "gpu")}
    queues = project.send("POST", "/work_pools/api/queues/filter", {})
    return {
        "schedules": sorted(schedules, key=lambda schedule: str(schedule["id"])),
        "deployment": {key: quick[key] for key in settings},
        "theirs": "mine" in project.deployments(),
        "pools": {n: [p["is_paused"], p["concurrency_limit"], p["description"]] for n, p in pools.items()},
        "template": pools["api"]["base_job_template"],
        "queues": sorted((q["name"], q["is_paused"], q["concurrency_limit"], q["priority"]) for q in queues),
        "variables": [v["value"] for v in project.send("POST", "/variables/filter", {})],
        "limits": project.send("GET", "/v2/concurrency_limits/mine")["limit"],
    }


def test_what_people_set_stays_when_it_is_registered_updated_and_started_again(project: Project) -> None:
    theirs = set_by_a_person(project)
    again = project.deploy()
    assert not again.changed
    assert {(c.name, c.field) for c in again.kept} >= {("quick/nightly", "active"), ("quick/nightly", "schedule")}
    assert seen(project) == theirs

    project.write("2", "Another text.", quick=NIGHTLY, gone="[]", left="[]", draining=OFTEN)
    updated = project.deploy()
    assert updated.changed
    assert {(c.name, c.field) for c in updated.kept} >= {
        ("quick", "description"),
        ("quick/nightly", "active"),
        ("pool api", "base_job_template"),
    }
    assert seen(project) == theirs
    assert project.deployments()["draining"]["description"] == "Another text."
    assert {row["version"] for name, row in project.deployments().items() if name != "mine"} == {updated.version}

    down(project.home)
    project.up()
    assert not project.deploy().changed
    assert seen(project) == theirs


def test_a_switch_keeps_the_parameters_of_its_schedule_when_the_ui_sends_no_others(project: Project) -> None:
    quick = project.deployments()["quick"]
    path = f"/deployments/{quick['id']}/schedules"
    body = {"active": True, "schedule": {"interval": 9999}, "parameters": {"folder": "kept"}}
    (made,) = project.send("POST", path, [body])
    project.send("PATCH", f"{path}/{made['id']}", {"active": False})
    (now,) = [schedule for schedule in project.send("GET", path) if schedule["id"] == made["id"]]
    assert (now["active"], now["parameters"]) == (False, {"folder": "kept"})
    assert now["schedule"] == made["schedule"]
    project.send("DELETE", f"{path}/{made['id']}")


def test_only_what_nobody_touched_goes_when_it_leaves_the_file(project: Project) -> None:
    found = project.deployments()
    schedules = project.schedules("draining")
    path = f"/deployments/{found['draining']['id']}/schedules"
    project.send("PATCH", f"{path}/{schedules['daily']['id']}", {"active": False})
    project.send("DELETE", f"{path}/{schedules['weekly']['id']}")
    project.send("POST", f"/deployments/{found['left']['id']}/schedules", [{"schedule": {"interval": 7200}}])
    before = project.deployments()

    # A schedule that a person deleted stays deleted.
    project.write("3", quick=NIGHTLY, gone="[]", left="[]", draining=OFTEN)
    assert ("draining/weekly", "schedule") in {(c.name, c.field) for c in project.deploy().kept}
    assert set(project.schedules("draining")) == {"often", "daily"}

    project.write("4", quick=NIGHTLY, draining="[]")
    planned = project.deploy(dry_run=True)
    assert {n: row["updated"] for n, row in project.deployments().items()} != {}
    assert set(project.deployments()) == set(before)
    done = project.deploy()
    assert planned == done
    assert set(done.removed) == {"gone", "draining/often"}
    assert {c.name for c in done.kept} >= {"left", "draining/daily"}
    assert set(project.deployments()) == {"quick", "draining", "left", "mine"}
    assert set(project.schedules("draining")) == {"daily"}


def test_the_others_are_registered_when_the_server_refuses_one(project: Project) -> None:
    """A parameter that a person set may not fit the next version."""
    quick = project.deployments()["quick"]
    project.send("PATCH", f"/deployments/{quick['id']}", {"parameters": {"folder": "theirs"}})
    project.write("5", quick=NIGHTLY, draining="[]")
    toys = project.root / "flows" / "toys.py"
    toys.write_text(toys.read_text().replace('def quick(folder: str = ".")', "def quick(folder: int = 0)"))
    with pytest.raises(Exception, match=r"the server refused:\n- `quick`: .*theirs"):
        project.deploy()
    assert project.deployments()["draining"]["version"] != quick["version"]
    project.write("5", quick=NIGHTLY, draining="[]")
    assert project.deploy().changed
    with pytest.raises(httpx.HTTPStatusError):
        project.send("GET", "/deployments/name/nobody/nothing")
