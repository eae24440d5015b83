"""The flow `join_clips_orchestrator`: join clips into one film and stay until it is there."""

from __future__ import annotations

from flows.tasks import task_flow
from tasks_lib.types.join_clips_orchestrator import TASK_TYPE

join_clips_orchestrator = task_flow(TASK_TYPE)
