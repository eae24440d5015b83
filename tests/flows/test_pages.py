"""What the pages of runs say: what a run is about, with pictures, words and settings; no secret and no dead link."""

from __future__ import annotations

import re
import socket
from typing import Any

from tasks_lib import cancel_task, create_task, get_task, list_tasks, wait_for_task
from tests.flows.conftest import Platform, until

KEY = re.compile(r"[a-z0-9-]+")


def artifacts_of(platform: Platform, **ids: Any) -> list[dict[str, Any]]:
    wanted = {name: {"any_": [str(value)]} for name, value in ids.items()}
    return list(platform.post("/artifacts/filter", {"artifacts": wanted}))


def test_run_says_what_a_travel_is_about_when_somebody_looks(platform: Platform) -> None:
    prompt = "a walk ![](http://tracker.example/x.png) `home` | " + "utk_0123456789_" + "s" * 43
    task = wait_for_task(platform.create(3, base_prompts=[prompt, "and back"], steps=7), timeout=120)
    assert task.status == "Complete"
    run = until(lambda: (r := platform.get(f"/flow_runs/{task.flow_run_id}"))["state_type"] == "COMPLETED" and r)
    found = artifacts_of(platform, flow_run_id=run["id"])
    assert all(KEY.fullmatch(artifact["key"] or "") for artifact in found), [a["key"] for a in found]
    name = f"travel-orchestrator-{str(task.id)[:8]}"
    by_key = {artifact["key"]: artifact for artifact in found}
    assert set(by_key) == {name, f"{name}-progress", f"{name}-film", f"{name}-sheet"}
    page = by_key[name]["data"]
    assert page.count("![](data:image/jpeg;base64,") == 3
    assert len(page) < 100_000
    assert "| steps | `7` |" in page
    assert "and back" in page
    assert "s" * 43 not in page
    assert "` " not in page.split("base_prompts[0]: `")[1].split("\n")[0][:-1], "nothing of a prompt is drawn"
    assert "unitask show" in page
    assert by_key[f"{name}-sheet"]["data"].startswith("data:image/jpeg;base64,")
    assert "unitask url" in by_key[f"{name}-film"]["data"]
    assert not [artifact for artifact in found if artifact["type"] == "link"], "file:// opens from no http page"

    listed = platform.post("/artifacts/latest/filter", {"artifacts": {"key": {"like_": name}}})
    assert {artifact["key"] for artifact in listed} == set(by_key)


def test_run_of_the_work_says_what_it_is_about_when_it_was_created_alone(platform: Platform) -> None:
    params = {"image_url": platform.images(1)[0], "scale_factor": 2}
    created = create_task("image_upscale", params, project_id=platform.owner.project_id)
    assert wait_for_task(created.task_id, timeout=60).status == "Complete"
    task_run_id = until(lambda: get_task(created.task_id).task_run_id, what="the run of the work")
    (about,) = until(lambda: artifacts_of(platform, task_run_id=task_run_id), 30, "its page")
    assert about["key"] == f"image-upscale-{str(created.task_id)[:8]}"
    assert "![](data:image/jpeg;base64," in about["data"]
    assert "| scale_factor | `2.0` |" in about["data"]


def test_worker_runs_are_named_after_pool_and_machine_when_they_run(platform: Platform) -> None:
    for pool in ("gpu", "api"):
        runs = platform.post(
            "/flow_runs/filter", {"flow_runs": {"name": {"like_": f"{pool} on {socket.gethostname()}"}}}
        )
        assert runs, pool


def test_failure_of_a_travel_names_its_segment_whole_when_a_child_fails(platform: Platform) -> None:
    broken = platform.folder / "is-no-picture.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n, and then no picture")
    images = [*platform.images(1), *platform._upload([broken])]
    task = wait_for_task(platform.create(2, image_urls=images), timeout=120)
    (segment,) = [child for child in list_tasks(parent_task_id=task.id) if child.task_type == "travel_segment"]
    run = until(lambda: (r := platform.get(f"/flow_runs/{task.flow_run_id}"))["state_type"] == "FAILED" and r)
    message = run["state"]["message"]
    assert str(segment.id)[:8] in message
    assert (segment.error_message or "nothing") in message


def test_children_say_pending_when_no_worker_has_them_yet(platform: Platform) -> None:
    """One slot and three segments: two of them wait, and so they say in the graph of the run."""
    task_id = platform.create(4, 2048, slow=True, segment_frames=81)
    run_id = until(lambda: get_task(task_id).flow_run_id, what="the run of the travel")

    def states() -> Any:
        nodes = platform.graph(run_id).values()
        found = sorted(n["state_type"] for n in nodes if n["label"].startswith("travel_segment"))
        return "RUNNING" in found and found

    try:
        assert until(states, 60, "a running segment") == ["PENDING", "PENDING", "RUNNING"]
    finally:
        cancel_task(task_id)
