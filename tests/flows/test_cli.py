"""The command line against a running platform: tables for people, JSON for programs, no traceback for a mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import Platform

UNITASK = str(Path(sys.executable).parent / "unitask")


def unitask(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    return subprocess.run(
        [UNITASK, *arguments],
        # Wide, whatever the width of who runs the tests.
        env={**os.environ, "COLUMNS": "400", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def answer(*arguments: str) -> Any:
    """The JSON that a command answers."""
    done = unitask(*arguments, "--output", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_task_is_created_watched_and_shown_when_its_files_are_given(platform: Platform) -> None:
    files = [f"image_urls={path}" for path in platform.pictures(2)]
    created = answer(
        "create", "travel_orchestrator", "--file", files[0], "--file", files[1],
        "--set", 'base_prompts=["turning"]', "--set", "segment_frames=5", "--set", "resolution=64x64",
    )  # fmt: skip
    watched = unitask("watch", created["task_id"], "--output", "json")
    states = [json.loads(line)["status"] for line in watched.stdout.splitlines()]
    assert states[-1] == "Complete"
    shown = answer("show", created["task_id"])
    assert shown["output_url"].endswith("film.mp4")
    assert created["task_id"] in [task["id"] for task in answer("list", "--status", "Complete", "--limit", "100")]
    assert "travel_orchestrator" in unitask("show", created["task_id"]).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["create", "travel_orchestrater"], "did you mean `travel_orchestrator`"),
        (["create", "travel_orchestrator", "--set", "base_prompts"], "must be name=value"),
        (["create", "travel_orchestrator", "--set", 'image_urls=["file:///etc/passwd"]'], "image_urls[0]"),
        (["create", "travel_orchestrator", "--file", "image_urls=/no/such.png"], "there is no file"),
        (["create", "travel_orchestrator", "--params", "/no/such.json"], "cannot read"),
        (["show", "nothing"], "there is nothing with the id"),
        (["cancel", "5492714a-1f38-404c-a4ce-dd1a246e8973"], "there is no task"),
        (["list", "--project", "nothing"], "there is nothing with the id"),
        (["types", "show", "travl_orchestrator"], "did you mean `travel_orchestrator`"),
    ],
)
def test_mistake_is_told_in_one_line_when_a_user_makes_one(platform: Platform, arguments: list[str], says: str) -> None:
    done = unitask(*arguments)
    told = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert says in told
    assert "Traceback" not in done.stderr + done.stdout


def test_remedy_is_named_when_the_token_or_the_database_is_missing(platform: Platform, tmp_path: Path) -> None:
    assert "Authentication" in unitask("list", UNITASK_TOKEN="").stderr
    done = unitask("list", UNITASK_HOME=str(tmp_path))
    assert "unitask up" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_finds_the_weights_that_are_missing_and_nothing_else_when_the_platform_runs(platform: Platform) -> None:
    done = unitask("doctor", "--output", "json")
    found = json.loads(done.stdout)
    assert {row["what"] for row in found} == {
        "settings", "home", "database", "task types", "token", "storage", "engines", "platform",
    }  # fmt: skip
    assert [row["text"].partition(":")[0] for row in found if row["state"] == "wrong"] == ["model `described`"]
    assert done.returncode == 1


def test_status_is_whole_when_the_platform_runs(platform: Platform) -> None:
    found = answer("status")
    assert found["ready"]
    assert {"postgres", "server", "gpu-worker", "api-worker"} <= set(found["processes"])
