"""The flow `travel_orchestrator`: make one travelling video and stay until it is there."""

from __future__ import annotations

from flows.tasks import task_flow
from tasks_lib.types.travel_orchestrator import TASK_TYPE

travel_orchestrator = task_flow(TASK_TYPE)
