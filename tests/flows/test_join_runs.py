"""Joining clips by its deployment: the run is the film's, and its graph the bridges'."""

from __future__ import annotations

import json

import numpy as np

from tasks_lib import list_tasks, upload_media
from tasks_lib.media.video import write_video
from tests.flows.conftest import Platform, run_prefect


def test_deployment_joins_clips_when_it_is_triggered(platform: Platform) -> None:
    references = []
    for i in range(3):
        path = platform.folder / f"join-{i}.mp4"
        write_video(path, iter([np.full((64, 64, 3), 60 * i + n, np.uint8) for n in range(24)]), 16, lossless=False)
        references.append(upload_media(path, project_id=platform.owner.project_id))
    request = {
        "project_id": str(platform.owner.project_id),
        "clips": [{"url": reference} for reference in references],
        "context_frame_count": 4,
        "gap_frame_count": 9,
    }
    code = f"""
import json
from prefect.blocks.system import Secret
from prefect.deployments import run_deployment
Secret(value={platform.owner.token!r}).save("unitask-token", overwrite=True)
run = run_deployment("join_clips_orchestrator/join-clips-orchestrator", parameters={{"request": {request!r}}},
                     timeout=120, as_subflow=False)
print(json.dumps([str(run.id), run.state.type.value, run.state.message]))
"""
    run_id, state, message = run_prefect(platform, code)
    assert (state, message) == ("COMPLETED", None), json.dumps(message)
    (film,) = [task for task in list_tasks(task_type="join_clips_orchestrator") if str(task.flow_run_id) == run_id]
    assert film.status == "Complete"
    assert film.result is not None
    assert film.result["media"]["frames"] == 3 * 24
    assert [join["key"] for join in film.result["joins"]] == ["join_000", "join_001"]
