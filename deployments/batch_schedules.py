"""Schedules of batches: Prefect's own, on the deployment `scheduled-batch`, checked when they are made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx

from deployments.deploy import answering
from deployments.errors import PlatformError
from flows import api, schedules
from tasks_lib import batches, templates
from tasks_lib.auth import authenticate, require_project
from tasks_lib.creation import validate
from tasks_lib.errors import ConflictError, NotFoundError, TaskValidationError

DEPLOYMENT = "scheduled-batch/scheduled-batch"
TOKEN_BLOCK = "unitask-token"  # noqa: S105  the name of a block
MAX_ROWS = 1_000
"""As the flow takes them."""
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

Row = dict[str, Any]


@dataclass(frozen=True)
class BatchSchedule:
    """A schedule, its next times in its time zone, and how its last run ended."""

    id: str
    name: str | None
    template: str
    project_id: str
    schedule: dict[str, Any]
    active: bool
    next_times: tuple[datetime, ...]
    last: str | None


def create_schedule(
    template: str, rhythm: Mapping[str, Any], rows: Mapping[str, Any], *, project_id: str, name: str | None = None
) -> BatchSchedule:
    """Make a schedule: `rhythm` is Prefect's (`cron`, `interval` or `rrule`, and `timezone`), `rows` says what of.

    That is one of `items` (a list), `items_url` and `images`, and if wanted `images_field` and `token_block`. Raises
    `TaskValidationError` with the field, and nothing is made.
    """
    stored = templates.get_template(template, project_id=project_id)
    authenticate().require("tasks:create")
    times = _next(rhythm, 3)
    if not times:
        raise TaskValidationError("the schedule has no time to come", "schedule")
    _check_rows(stored, rows)
    parameters = {"project_id": str(stored.project_id), "template": stored.name, **rows}
    body = {"active": True, "schedule": rhythm, "parameters": parameters} | ({"slug": name} if name else {})
    with _server() as client:
        deployment = _deployment(client)
        answer = client.post(f"/deployments/{deployment['id']}/schedules", json=[body])
        if answer.status_code == httpx.codes.CONFLICT:
            raise ConflictError(f"there is a schedule `{name}` already")
        (made,) = answer.raise_for_status().json()
    return _described(made, parameters, times, None)


def list_schedules(*, project_id: str) -> list[BatchSchedule]:
    """Return the schedules of a project, the one that is next first."""
    project = str(_project(project_id))
    with _server() as client:
        deployment = _deployment(client)
        last = _last_runs(client, deployment)
    found = []
    for row in deployment["schedules"]:
        parameters = deployment["parameters"] | row["parameters"]
        if parameters.get("project_id") == project:
            times = _next(row["schedule"], 1) if row["active"] and not deployment["paused"] else []
            found.append(_described(row, parameters, times, last.get(row["id"])))
    return sorted(found, key=lambda s: (not s.next_times, s.next_times[0].timestamp() if s.next_times else 0, s.id))


def switch_schedule(text: str, active: bool, *, project_id: str) -> str:
    """Pause or resume the schedule of that name or id, or beginning of an id; return its id."""
    with _own(text, project_id) as (client, path, row):
        # The parameters too: to Prefect's server, those that are left out are none.
        body = {"active": active, "parameters": row["parameters"]}
        client.patch(path, json=body).raise_for_status()
        return str(row["id"])


def remove_schedule(text: str, *, project_id: str) -> str:
    """Remove the schedule of that name or id, or beginning of an id; return its id. Its runs and tasks stay."""
    with _own(text, project_id) as (client, path, row):
        client.delete(path).raise_for_status()
        return str(row["id"])


def has_token(block: str) -> bool:
    """Return whether there is a Secret block of that name."""
    with _server() as client:
        return client.get(f"/block_types/slug/secret/block_documents/name/{block}").is_success


def rhythm_of(cron: str | None, interval: str | None, rrule: str | None, timezone: str) -> dict[str, Any]:
    """Return Prefect's form of what a person gives. Raises `TaskValidationError` with the field."""
    if sum(value is not None for value in (cron, interval, rrule)) != 1:
        raise TaskValidationError("give one of `cron`, `interval` and `rrule`", "cron")
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        text = f"`timezone` must be a name such as `Europe/Berlin`, not `{timezone}`"
        raise TaskValidationError(text, "timezone") from None
    if interval is not None:
        seconds = re.fullmatch(r"(\d+) *([smhd]?)", interval.strip())
        if not seconds or int(seconds[1]) == 0:
            text = f"`interval` must be seconds, or as `15m`, `2h`, `1d`, not `{interval}`"
            raise TaskValidationError(text, "interval")
        start = datetime.now(ZoneInfo(timezone)).isoformat()
        return {"interval": int(seconds[1]) * UNITS[seconds[2]], "anchor_date": start, "timezone": timezone}
    return {"cron": cron, "timezone": timezone} if cron is not None else {"rrule": rrule, "timezone": timezone}


def _check_rows(stored: templates.Template, rows: Mapping[str, Any]) -> None:
    if sum(bool(rows.get(name)) for name in ("items", "items_url", "images")) != 1:
        raise TaskValidationError("give one of `items` (a list that is not empty), `items_url` and `images`", "items")
    if rows.get("images"):
        batches.find_images(rows["images"])
        return
    items = rows.get("items") or batches.fetch_items(rows["items_url"], stored.task_type)
    if len(items) > MAX_ROWS:
        raise TaskValidationError(f"`items` has {len(items)} rows; a schedule takes at most {MAX_ROWS}", "items")
    project = stored.project_id
    validate(
        [{"task_type": stored.task_type, "params": stored.with_overrides(i), "project_id": project} for i in items]
    )


def _next(rhythm: Mapping[str, Any], count: int) -> list[datetime]:
    try:
        return schedules.next_times(rhythm, count)
    except ValueError as error:
        field = next(name for name in ("cron", "interval", "rrule") if name in rhythm)
        reason = str(error).splitlines()[0] if not hasattr(error, "errors") else _reason(error.errors(), field)
        raise TaskValidationError(f"`{field}` is not understood: {rhythm[field]!r} ({reason})", field) from None


def _reason(errors: list[Row], field: str) -> str:
    """Of the forms that a schedule can have, what is wrong with the one that was given."""
    return next((str(error["msg"]) for error in errors if error["loc"][-1] == field), "see Prefect's schedules")


def _described(row: Row, parameters: Row, times: list[datetime], last: str | None) -> BatchSchedule:
    return BatchSchedule(
        id=row["id"],
        name=row["slug"],
        template=str(parameters.get("template", "")),
        project_id=str(parameters["project_id"]),
        schedule=row["schedule"],
        active=row["active"],
        next_times=tuple(times),
        last=last,
    )


def _last_runs(client: httpx.Client, deployment: Row) -> dict[str, str]:
    """How the newest run of each schedule that has ended did, in words."""
    states = {"type": {"any_": ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]}}
    where = {"deployment_id": {"any_": [deployment["id"]]}, "state": states}
    body = {"flow_runs": where, "sort": "END_TIME_DESC"}
    found: dict[str, str] = {}
    for run in client.post("/flow_runs/filter", json=body).raise_for_status().json():
        if schedule_id := schedules.schedule_of(run["idempotency_key"]):
            found.setdefault(schedule_id, f"{run['state_name']}: {run['state']['message'] or ''}")
    return found


@contextmanager
def _own(text: str, project_id: str) -> Iterator[tuple[httpx.Client, str, Row]]:
    authenticate().require("tasks:create")
    project = str(_project(project_id))
    with _server() as client:
        deployment = _deployment(client)
        mine = [
            row
            for row in deployment["schedules"]
            if (deployment["parameters"] | row["parameters"]).get("project_id") == project
            and (row["slug"] == text or row["id"].startswith(text.lower()))
        ]
        if not mine:
            raise NotFoundError(f"there is no schedule `{text}`")
        if len(mine) > 1 and mine[0]["slug"] != text:
            raise TaskValidationError(f"several schedules begin with `{text}`", "schedule")
        yield client, f"/deployments/{deployment['id']}/schedules/{mine[0]['id']}", mine[0]


def _project(project_id: str) -> UUID:
    caller = authenticate()
    caller.require("tasks:read")
    return require_project(caller, UUID(project_id)).id


def _deployment(client: httpx.Client) -> Row:
    found = client.get(f"/deployments/name/{DEPLOYMENT}")
    if found.status_code == httpx.codes.NOT_FOUND:
        raise PlatformError("the deployment `scheduled-batch` is not there: `unitask deploy` registers it")
    row: Row = found.raise_for_status().json()
    return row


@contextmanager
def _server() -> Iterator[httpx.Client]:
    with api.client(answering()) as client:
        try:
            yield client
        except httpx.HTTPStatusError as error:
            raise PlatformError(f"Prefect's server refused: {error.response.text[:500]}") from None
        except httpx.HTTPError as error:
            raise PlatformError(f"Prefect's API failed: {error}") from None
