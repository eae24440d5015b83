"""Joining clips by its deployment: the run is the film's, and its graph the bridges'."""

from __future__ import annotations

import numpy as np

from tasks_lib import TaskRequest, list_tasks, upload_media
from tasks_lib.auth.sealing import seal
from tasks_lib.media.video import write_video
from tests.flows.conftest import Platform

JOIN = "join_clips_orchestrator"


def test_deployment_joins_clips_when_it_is_triggered(platform: Platform) -> None:
    references = []
    for i in range(3):
        path = platform.folder / f"join-{i}.mp4"
        write_video(path, iter([np.full((64, 64, 3), 60 * i + n, np.uint8) for n in range(24)]), 16, lossless=False)
        references.append(upload_media(path, project_id=platform.owner.project_id))
    params = {"clips": [{"url": reference} for reference in references], "context_frame_count": 4, "gap_frame_count": 9}
    project_id = platform.owner.project_id
    request = TaskRequest(task_type=JOIN, params=params, project_id=project_id)
    run = platform.run_deployment(
        f"{JOIN}/join-clips-orchestrator",
        {
            "request": {"project_id": str(project_id), **params},
            "sealed_token": seal(platform.owner.token, request.model_dump(mode="json")),
        },
    )
    assert run["state_type"] == "COMPLETED", run["state"]
    (film,) = [task for task in list_tasks(task_type=JOIN) if str(task.flow_run_id) == run["id"]]
    assert film.status == "Complete"
    assert run["state"]["message"] == f"task {film.id} is Complete: {film.output_url}"
    assert film.result is not None
    assert film.result["media"]["frames"] == 3 * 24
    assert [join["key"] for join in film.result["joins"]] == ["join_000", "join_001"]
