"""`unitask schedule`: schedules of Prefect's on the deployment `scheduled-batch`, checked when they are made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployments import manifest
from deployments.deploy import deploy
from tasks_lib.templates import create_template
from tests.conftest import make_owner
from tests.flows.conftest import Platform

TEMPLATE = "evening pictures"
BATCH = "/deployments/name/scheduled-batch/scheduled-batch"


def unitask(platform: Platform, *arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command, as people call it."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("unitask")), *arguments],
        env=os.environ | {"UNITASK_TOKEN": token or platform.owner.token},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def items(platform: Platform, tmp_path: Path) -> str:
    create_template(
        TEMPLATE, "single_image", {"steps": 4}, project_id=platform.owner.project_id, open_fields=["prompt"]
    )
    path = tmp_path / "items.jsonl"
    path.write_text('{"prompt": "a cat"}\n{"prompt": "a dog"}\n')
    return str(path)


def schedules(platform: Platform) -> list[dict[str, Any]]:
    return list(platform.get(BATCH)["schedules"])


def test_a_schedule_is_made_listed_paused_resumed_and_removed(platform: Platform, items: str) -> None:
    given = ("--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--items", items, "--name", "evenings")
    made = unitask(platform, "schedule", "create", TEMPLATE, *given, "--token-block", "nobody-made-this")
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("02:30 CE") >= 2  # in the time zone of the schedule, in winter or summer
    assert len(made.stdout.splitlines()) == 4
    assert "there is no Secret block `nobody-made-this`" in made.stderr
    (row,) = [schedule for schedule in schedules(platform) if schedule["slug"] == "evenings"]
    assert (row["active"], row["schedule"]["cron"]) == (True, "30 2 * * *")
    assert row["parameters"] == {
        "project_id": str(platform.owner.project_id),
        "template": TEMPLATE,
        "items": [{"prompt": "a cat"}, {"prompt": "a dog"}],
        "token_block": "nobody-made-this",
    }
    listed = json.loads(unitask(platform, "schedule", "list", "-o", "json").stdout)
    assert [(s["name"], s["template"], s["active"], len(s["next_times"]), s["last"]) for s in listed] == [
        ("evenings", TEMPLATE, True, 1, None)
    ]
    assert "paused" in unitask(platform, "schedule", "pause", "evenings").stdout
    (paused,) = [schedule for schedule in schedules(platform) if schedule["slug"] == "evenings"]
    assert (paused["active"], paused["parameters"]) == (False, row["parameters"])
    assert "paused" in unitask(platform, "schedule", "list").stdout
    assert unitask(platform, "schedule", "resume", row["id"][:8]).returncode == 0

    # Somebody else's is not there.
    stranger = make_owner("stranger")
    for command in ("pause", "remove"):
        refused = unitask(platform, "schedule", command, "evenings", token=stranger.token)
        assert (refused.returncode, "there is no schedule `evenings`" in refused.stderr) == (1, True)
    assert json.loads(unitask(platform, "schedule", "list", "-o", "json", token=stranger.token).stdout) == []

    assert "removed" in unitask(platform, "schedule", "remove", "evenings").stdout
    assert [schedule["slug"] for schedule in schedules(platform)] == ["nightly"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--cron", "0 3 * *", "--items", "ITEMS"), "`cron` is not understood: '0 3 * *'"),
        (("--cron", "0 3 30 2 *", "--items", "ITEMS"), "`cron` is not understood: '0 3 30 2 *'"),
        (("--rrule", "FREQ=SOMETIMES", "--items", "ITEMS"), "`rrule` is not understood"),
        (("--interval", "0", "--items", "ITEMS"), "`interval` must be seconds, or as `15m`"),
        (("--items", "ITEMS"), "give one of `cron`, `interval` and `rrule`"),
        (("--cron", "0 3 * * *", "--interval", "60", "--items", "ITEMS"), "give one of `cron`, `interval` and"),
        (("--cron", "0 3 * * *", "--timezone", "Berlin", "--items", "ITEMS"), "`timezone` must be a name such as"),
        (("--cron", "0 3 * * *"), "give one of `items`"),
        (("--cron", "0 3 * * *", "--items", "WRONG"), "row 1: `steps`"),
        (("--cron", "0 3 * * *", "--images", "s3://nobody/*.png"), "no place that UNITASK_BATCH_URLS allows"),
    ],
)
def test_a_schedule_is_refused_by_its_field_when_it_cannot_run(
    platform: Platform, items: str, tmp_path: Path, given: tuple[str, ...], told: str
) -> None:
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"prompt": "a"}\n{"prompt": "b", "steps": -1}\n{"seed": -5, "prompt": "c"}\n')
    before = schedules(platform)
    arguments = [{"ITEMS": items, "WRONG": str(wrong)}.get(argument, argument) for argument in given]
    refused = unitask(platform, "schedule", "create", TEMPLATE, *arguments)
    assert refused.returncode == 1, refused.stdout
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr
    assert schedules(platform) == before


def test_a_schedule_is_refused_when_its_template_is_somebody_elses(platform: Platform, items: str) -> None:
    stranger = make_owner("stranger")
    given = ("--cron", "0 3 * * *", "--items", items)
    refused = unitask(platform, "schedule", "create", TEMPLATE, *given, token=stranger.token)
    assert (refused.returncode, f"there is no template `{TEMPLATE}`" in refused.stderr) == (1, True)


def test_what_people_set_stays_when_it_is_deployed_started_and_updated(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requests are those of Prefect's UI; see tests/acceptance/test_registration.py for all that can be set."""
    deployment = platform.get(BATCH)
    path = f"/deployments/{deployment['id']}"
    (nightly,) = deployment["schedules"]
    changed = {"active": True, "schedule": {"cron": "5 1 1 1 *", "timezone": "Europe/Berlin"}}
    platform.api.patch(f"{path}/schedules/{nightly['id']}", json=changed).raise_for_status()
    own = {"active": False, "schedule": {"interval": 7200}, "parameters": {"template": "mine"}}
    (made,) = platform.post(f"{path}/schedules", [own])
    platform.api.patch(path, json={"parameters": {"images_field": "mine"}}).raise_for_status()
    theirs = platform.get(BATCH)

    def same() -> bool:
        now = platform.get(BATCH)
        return all(now[key] == theirs[key] for key in ("schedules", "parameters", "description", "tags"))

    try:
        planned = unitask(platform, "deploy", "--dry-run")
        assert planned.returncode == 0, planned.stderr
        assert "kept: scheduled-batch/nightly: active is true, prefect.yaml has false" in planned.stdout
        assert unitask(platform, "deploy").stdout.splitlines()[:-1] == planned.stdout.splitlines()[:-1]
        assert same()
        assert unitask(platform, "up").returncode == 0
        assert same()
        with monkeypatch.context() as update:
            update.setattr(manifest, "_digest", lambda _: "of an update")
            assert deploy(dry_run=True).changes == deploy().changes
        assert platform.get(BATCH)["version"] == "of an update"
        assert same()
    finally:
        platform.api.delete(f"{path}/schedules/{made['id']}").raise_for_status()
        platform.api.patch(path, json={"parameters": {}}).raise_for_status()
        back = {key: nightly[key] for key in ("active", "schedule")}
        platform.api.patch(f"{path}/schedules/{nightly['id']}", json=back).raise_for_status()
        deploy()
