"""The forms of task types: what people fill in in Prefect's UI, sent as the UI sends it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tasks_lib import get_task
from tests.flows.conftest import ENDED, Platform, until


@pytest.fixture(scope="module")
def block(platform: Platform) -> str:
    platform.save_secret("block-of-forms", platform.owner.token)
    return "block-of-forms"


def start(platform: Platform, deployment: str, parameters: dict[str, Any], name: str) -> str:
    """Submit a form, as the page of the deployment does."""
    found = platform.get(f"/deployments/name/{deployment}")["id"]
    body = {"parameters": parameters, "name": name, "state": {"type": "SCHEDULED"}, "enforce_parameter_schema": True}
    return str(platform.post(f"/deployments/{found}/create_flow_run", body)["id"])


def ended(platform: Platform, run_id: str) -> Any:
    run = platform.get(f"/flow_runs/{run_id}")
    return run["state_type"] in ENDED and run


def test_forms_make_what_they_are_for_when_people_submit_them(platform: Platform, block: str) -> None:
    """A travel whose name was typed, a picture whose name the form made up, and a form that lacks a field."""
    travel = {**platform.request(2), "seed": 789, "token_block": block, "advanced": {"generation_name": "holidays"}}
    picture = {"project_id": str(platform.owner.project_id), "image_url": platform.images(1)[0], "token_block": block}
    film, larger, empty = (
        start(platform, "travel_orchestrator/travel-orchestrator", travel, "Anna's holidays"),
        start(platform, "image_upscale/image-upscale", {**picture, "scale_factor": 2}, "phi5-ashikaga"),
        start(platform, "travel_orchestrator/travel-orchestrator", {"segment_frames": 61, "seed": 789}, "tau5-hotta"),
    )
    runs = [until(partial(ended, platform, run_id), what="the end of a form's run") for run_id in (film, larger, empty)]
    assert [run["name"] for run in runs] == ["Anna's holidays", "Image Upscaling", "Travel Between Images"]
    assert [run["state_type"] for run in runs] == ["COMPLETED", "COMPLETED", "FAILED"], [r["state"] for r in runs]
    assert runs[2]["state"]["message"] == "`project_id`: Field required"
    made = get_task(runs[0]["state"]["message"].split()[1])
    assert (made.status, made.params["orchestrator_details"]["generation_name"]) == ("Complete", "holidays")
    enlarged = get_task(runs[1]["state"]["message"].split()[1])
    assert (enlarged.task_type, enlarged.status) == ("image_upscale", "Complete")
    assert enlarged.output_url is not None
    assert runs[1]["state"]["message"].endswith(enlarged.output_url)
