"""Why a task waits, in words: for who looks at it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any
from uuid import UUID

from tasks_lib import database
from tasks_lib.client import Task
from tasks_lib.errors import ProviderError
from tasks_lib.providers.routing import providers, route
from tasks_lib.settings import Settings, get_settings
from tasks_lib.types.registry import task_types

AGAIN_SECONDS = 3.0
WAITS_FOR_A_WORKER = ("worker", "turn")
_asked: dict[str, tuple[float, str]] = {}
"""When it was asked what holds a pool back, and the answer."""


def reasons(tasks: Iterable[Task]) -> dict[UUID, str]:
    """Why each of these tasks waits that is Pending. They are the caller's, who was shown them."""
    pending = [task for task in tasks if task.status == "Pending"]
    if not pending:
        return {}
    settings = get_settings()
    rows = database.call(
        "why_waiting",
        p_ids=[task.id for task in pending],
        p_lease_seconds=settings.lease_seconds,
        p_user_cap=settings.max_tasks_per_user,
        p_limits=json.dumps(_limits({task.task_type for task in pending}, settings)),
    )
    pauses = _pauses({row["run_type"] for row in rows if row["reason"] in WAITS_FOR_A_WORKER})
    why = {row["id"]: _pause_of(row, pauses) or _words(row, settings) for row in rows}
    # Workers leave alone what they have no code for.
    return why | {
        task.id: f"waits for a worker that has code for `{task.task_type}`; see `unitask doctor`"
        for task in pending
        if task.task_type not in task_types()
    }


def _pause_of(row: dict[str, Any], pauses: dict[str, str]) -> str | None:
    return pauses.get(row["run_type"]) if row["reason"] in WAITS_FOR_A_WORKER else None


def _pauses(run_types: set[str]) -> dict[str, str]:
    """What people have set in Prefect that holds a pool back; asked for now and then, since bars are drawn often."""
    due = {pool for pool in run_types if time.monotonic() - _asked.get(pool, (-AGAIN_SECONDS, ""))[0] > AGAIN_SECONDS}
    found: dict[str, str] = {}
    for point in entry_points(group="unitask.pauses") if due else ():
        found |= point.load()(due)
    _asked.update({pool: (time.monotonic(), found.get(pool, "")) for pool in due})
    return {pool: _asked[pool][1] for pool in run_types if _asked[pool][1]}


def _limits(task_types: Iterable[str], settings: Settings) -> dict[str, dict[str, Any]]:
    """What the providers of types take; an own engine's types have none."""
    found = {}
    for task_type in task_types:
        try:
            name = route(task_type, settings).provider
        except ProviderError:
            continue
        provider = providers(settings)[name]
        found[task_type] = {"provider": name, "concurrency": provider.concurrency, "per_minute": provider.per_minute}
    return found


def _words(row: dict[str, Any], settings: Settings) -> str:
    pool, seconds = row["run_type"], f"{row['seconds']:.0f} s"
    more = f" and {row['others']} more" if row["others"] else ""
    again = f"is tried again in {seconds}, after: {row['error']}"
    return {
        "dependency": f"waits for {row['other_name']} {str(row['other_id'])[:8]} ({row['other_status']}){more}",
        "due": again if row["error"] else f"is due in {seconds}",
        "provider": f"waits for room at {row['provider']}",
        "worker": f"no worker of the pool {pool} runs; one starts soon, or see `unitask status`",
        "cap": f"waits for tasks of yours: at most {settings.max_tasks_per_user} run at once in the pool {pool}",
        "turn": f"waits for its turn in the pool {pool}",
    }[row["reason"]]
