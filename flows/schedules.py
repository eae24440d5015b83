"""Every planned time ends in a run, exactly once: made in time, made late, or reported as missed with its reason.

Prefect plans only a little ahead. Times that passed while nothing ran are found from the schedules themselves, with
Prefect's own arithmetic, and their runs get the idempotency keys that its scheduler gives: so there is one for each.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from time import sleep
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx
import sqlalchemy as sa
from prefect.server.schemas.schedules import SCHEDULE_TYPES
from pydantic import TypeAdapter
from sqlalchemy.dialects.postgresql import insert

from db import tables
from tasks_lib import database
from tasks_lib.settings import get_settings

logger = logging.getLogger(__name__)

GRACE = timedelta(minutes=5)
"""A time that is at most so late is made, whatever came after it; when nobody looked for longer, it was an outage."""
SETTLED = timedelta(minutes=1)
"""Prefect's scheduler may be planning what is younger."""
MISSED = "Missed"
SHOWN_SINGLY = 50
PAGE = 200
PAGE_OF_TIMES = 1000
RUNS = 3
"""How often a run whose process dies is started."""
OPEN = ["PENDING", "RUNNING", "CRASHED"]
ALIVE = {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}
_LOCK = sa.text("SELECT unitask.lock_guard('run ' || :run)")
_TRY_LOCK = sa.text("SELECT unitask.lock_guard('run ' || :run, false)")
_FORGET = sa.text("DELETE FROM guards WHERE name = 'run ' || :run")
LOCK_SECONDS = 1
_SCHEDULE: TypeAdapter[Any] = TypeAdapter(SCHEDULE_TYPES)

Row = dict[str, Any]


@dataclass(frozen=True)
class Mark:
    """A schedule as it was last seen, and up to when its times are accounted for."""

    schedule: dict[str, Any]
    active: bool
    looked_until: datetime
    down_from: datetime | None = None
    down_until: datetime | None = None


def due_times(schedule: Mapping[str, Any], after: datetime, until: datetime) -> list[datetime]:
    """Return the times of a schedule in (`after`, `until`], in its time zone, as Prefect's scheduler plans them.

    Where clocks are put back or forward its arithmetic depends on where it begins, so it begins hours before.
    """
    # In UTC, since times of one zone are compared by what their clocks show, also in the hour that comes twice.
    found: dict[datetime, datetime] = {}
    start = after - timedelta(hours=3)
    while True:
        page = {time.astimezone(UTC): time for time in _times(schedule, PAGE_OF_TIMES, start, until)}
        found |= {utc: time for utc, time in page.items() if after < utc <= until}
        if len(page) < PAGE_OF_TIMES:
            return [found[utc] for utc in sorted(found)]
        start = max(page) + timedelta(seconds=1)


def latest_of(schedule: Mapping[str, Any], planned: datetime, now: datetime) -> datetime:
    """Return the last time of a schedule that has passed, or `planned` if none has since."""
    return (due_times(schedule, planned.astimezone(UTC), now) or [planned])[-1]


def next_times(schedule: Mapping[str, Any], count: int) -> list[datetime]:
    """Return the next times of a schedule, in its time zone. Raises `ValueError` for one that is none."""
    return _times(schedule, count, datetime.now(UTC), None)


def _times(schedule: Mapping[str, Any], count: int, start: datetime, until: datetime | None) -> list[datetime]:
    parsed = _SCHEDULE.validate_python(dict(schedule))
    found = asyncio.run(parsed.get_dates(n=count, start=start, end=until))
    # Prefect's own kind of times loses its zone in arithmetic.
    zone = ZoneInfo(parsed.timezone) if parsed.timezone else None
    return [datetime.fromtimestamp(time.timestamp(), zone or timezone(time.utcoffset())) for time in found]


def why_not(planned: datetime, latest: datetime, now: datetime, mark: Mark | None) -> str | None:
    """Return why a time is not made any more, or nothing if it is: of late ones the latest is, within the set time."""
    window = timedelta(seconds=get_settings().catch_up_seconds)
    # By the clock of UTC: two times of one zone are compared by what its clocks show.
    older = planned.timestamp() < latest.timestamp()
    if now - planned <= GRACE or (not older and now - planned <= window):
        return None
    down = (mark.down_from, mark.down_until) if mark else (None, None)
    if mark and now - mark.looked_until > GRACE and planned > mark.looked_until:
        down = (mark.looked_until, now)
    if down[0] and down[1] and down[0] < planned <= down[1]:
        reason = f"the platform was down from {_minute(down[0])} to {_minute(down[1])}"
    else:
        reason = f"its run could not start until {_minute(now)}"
    instead = f"{_minute(latest)} is made instead" if older else f"it is {spoken(now - planned)} late"
    return f"missed, because {reason}; {instead}"


def spoken(time: timedelta) -> str:
    """Return a duration in its two largest units: `3 h 12 min`."""
    seconds = int(time.total_seconds())
    units = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("min", seconds // 60 % 60), ("s", seconds % 60))
    first = next((place for place, (_, amount) in enumerate(units) if amount), len(units) - 1)
    return " ".join(f"{amount} {unit}" for unit, amount in units[first : first + 2] if amount) or "0 s"


def key_of(deployment_id: str, schedule_id: str, time: datetime) -> str:
    """Return the idempotency key that Prefect's scheduler gives to the run of a time."""
    return f"scheduled {deployment_id} {schedule_id} {time}"


def schedule_of(key: str | None) -> str | None:
    """Return the id of the schedule that a run was planned by, from its idempotency key."""
    parts = (key or "").split(" ")
    return parts[2] if len(parts) > 3 and parts[0] == "scheduled" else None


def account(client: httpx.Client, deployments: Sequence[Row], now: datetime) -> int:
    """See to it that every time that passed has a run; answer how many were made or reported now."""
    made = 0
    for deployment in deployments:
        for schedule in deployment["schedules"]:
            try:
                made += _account(client, deployment, schedule, now)
            except (ValueError, httpx.HTTPStatusError) as error:
                # One that Prefect takes and cannot follow, such as a 30th of February, stops no others.
                logger.warning("the schedule %s of %s is left out: %s", schedule["id"], deployment["name"], error)
    return made


def _account(client: httpx.Client, deployment: Row, schedule: Row, now: datetime) -> int:
    m, until = tables.schedule_marks, now - SETTLED
    active = schedule["active"] and not deployment["paused"]
    values = {"schedule": schedule["schedule"], "active": active}
    with database.transaction() as connection:
        # Older runs may be deleted by now.
        since = max(_time(schedule["updated"]), now - timedelta(seconds=get_settings().catch_up_seconds))
        first = {**values, "schedule_id": UUID(schedule["id"]), "looked_until": since}
        connection.execute(insert(m).values(first).on_conflict_do_nothing())
    with database.transaction() as connection:
        # Two that look at once would both make what is missing; the keys of the runs are the second fence.
        where = m.c.schedule_id == UUID(schedule["id"])
        row = connection.execute(sa.select(m).where(where).with_for_update(skip_locked=True)).first()
        if row is None or row.looked_until >= until:
            return 0
        mark = Mark(row.schedule, row.active, row.looked_until, row.down_from, row.down_until)
        if now - mark.looked_until > GRACE + SETTLED:
            mark = Mark(mark.schedule, mark.active, mark.looked_until, mark.looked_until, now)
        made = _report(client, deployment, schedule, mark, until, now)
        values |= {"looked_until": until, "down_from": mark.down_from, "down_until": mark.down_until}
        connection.execute(sa.update(m).where(where).values(values))
    return made


def _report(client: httpx.Client, deployment: Row, schedule: Row, mark: Mark, until: datetime, now: datetime) -> int:
    owed = _owed(deployment, schedule, mark, until)
    waiting = _waiting(client, deployment, schedule, until)
    if not owed and not waiting:
        return 0
    known = _known(client, deployment, schedule, owed) if owed else set()
    latest = max([*owed, *(_time(run["expected_start_time"]) for run in waiting)], key=datetime.timestamp)
    latest = latest_of(schedule["schedule"], latest, now)
    for run in waiting:
        if reason := why_not(_time(run["expected_start_time"]), latest, now, mark):
            _set_missed(client, run["id"], reason)
    missing = [time for time in owed if time.astimezone(UTC) not in known]
    left = [(time, why_not(time, latest, now, mark)) for time in missing]
    missed = [(time, reason) for time, reason in left if reason]
    # A long outage of a busy schedule: the newest have a report each, and all before them one.
    for time, reason in missed[-SHOWN_SINGLY:]:
        _make(client, deployment, schedule, time, reason)
    if earlier := missed[:-SHOWN_SINGLY]:
        span = f"{len(earlier)} times from {_minute(earlier[0][0])} to {_minute(earlier[-1][0])}"
        _make(client, deployment, schedule, earlier[0][0], f"{span}: {earlier[0][1]}")
    for time, reason in left:
        if reason is None:
            _make(client, deployment, schedule, time, None)
    return len(missing)


def _owed(deployment: Row, schedule: Row, mark: Mark, until: datetime) -> list[datetime]:
    """The times since the last look: up to a change as the schedule was, and from then as it is."""
    active = schedule["active"] and not deployment["paused"]
    changed = schedule["schedule"] != mark.schedule or _time(schedule["updated"]) > mark.looked_until
    changed_at = _time(schedule["updated"] if changed else deployment["updated"])
    changed_at = min(max(changed_at, mark.looked_until), until)
    before = due_times(mark.schedule, mark.looked_until, changed_at) if mark.active else []
    return before + (due_times(schedule["schedule"], changed_at, until) if active else [])


def _waiting(client: httpx.Client, deployment: Row, schedule: Row, until: datetime) -> list[Row]:
    """Runs of the schedule whose time passed and that nobody started."""
    found = {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"before_": until.isoformat()}}
    runs = _runs(client, deployment, found)
    return [run for run in runs if _is_of(run, schedule) and run["run_count"] == 0]


def _known(client: httpx.Client, deployment: Row, schedule: Row, owed: Sequence[datetime]) -> set[datetime]:
    """The times of the schedule that have runs already."""
    times = {"after_": owed[0].isoformat(), "before_": owed[-1].isoformat()}
    runs = _runs(client, deployment, {"expected_start_time": times})
    return {_time(run["expected_start_time"]) for run in runs if _is_of(run, schedule)}


def _runs(client: httpx.Client, deployment: Row, found: Row) -> Iterator[Row]:
    offset = 0
    while True:
        where = {"deployment_id": {"any_": [deployment["id"]]}, **found}
        body = {"flow_runs": where, "sort": "ID_DESC", "limit": PAGE, "offset": offset}
        page = client.post("/flow_runs/filter", json=body).raise_for_status().json()
        yield from page
        offset += len(page)
        if len(page) < PAGE:
            return


def _is_of(run: Row, schedule: Row) -> bool:
    key: str | None = run["idempotency_key"]
    return schedule_of(key) == str(schedule["id"])


def _make(client: httpx.Client, deployment: Row, schedule: Row, time: datetime, missed: str | None) -> None:
    """Make the run of a time that has none, to start now, or to say why it does not."""
    state: Row = {"type": "SCHEDULED", "state_details": {"scheduled_time": time.isoformat()}}
    if missed:
        state = {"type": "CANCELLED", "name": MISSED, "message": missed}
    body = {
        "state": state,
        "parameters": schedule["parameters"],
        "enforce_parameter_schema": False,  # of a time that was planned there is a report, whatever it was planned with
        "idempotency_key": key_of(deployment["id"], schedule["id"], time),
        "tags": ["auto-scheduled"],
    }
    if missed:
        body["name"] = f"missed {_minute(time)}"
    client.post(f"/deployments/{deployment['id']}/create_flow_run", json=body).raise_for_status()


def _set_missed(client: httpx.Client, run_id: str, reason: str) -> None:
    body = {"state": {"type": "CANCELLED", "name": MISSED, "message": reason}}
    client.post(f"/flow_runs/{run_id}/set_state", json=body).raise_for_status()


def mark_of(schedule_id: str) -> Mark | None:
    """Return what was last seen of a schedule."""
    m = tables.schedule_marks
    with database.transaction() as connection:
        row = connection.execute(sa.select(m).where(m.c.schedule_id == UUID(schedule_id))).first()
    return Mark(row.schedule, row.active, row.looked_until, row.down_from, row.down_until) if row else None


def registered(client: httpx.Client) -> list[Row]:
    """Return the deployments that `unitask deploy` made, with their schedules."""
    r = tables.registrations
    with database.transaction() as connection:
        ids = [str(id_) for id_ in connection.scalars(sa.select(r.c.object_id))]
    body = {"deployments": {"id": {"any_": ids}}}
    rows: list[Row] = client.post("/deployments/filter", json=body).raise_for_status().json()
    return rows


@contextmanager
def working_on(flow_run_id: str) -> Iterator[None]:
    """Hold a lock while the process of a run lives: whoever gets it from a run that is open knows that it is dead."""
    connection = _locked(flow_run_id)
    try:
        yield
    finally:
        # An outage ends the connection, and frees the lock: a second process then makes the same rows, by their keys.
        with suppress(sa.exc.DBAPIError), connection:
            connection.execute(_FORGET, {"run": flow_run_id})
            connection.commit()


def _locked(flow_run_id: str) -> sa.Connection:
    while True:
        try:
            # Its row is committed first: whoever only tries would wait for one that is not.
            with database.get_engine().begin() as connection:
                connection.execute(_LOCK, {"run": flow_run_id})
            connection = database.get_engine().connect()
            connection.execute(_LOCK, {"run": flow_run_id})
        except sa.exc.OperationalError:
            sleep(LOCK_SECONDS)
        else:
            return connection


def resume_lost(client: httpx.Client, deployment: Row, now: datetime) -> int:
    """Start the runs of a deployment again whose process died, a few times each; answer how many.

    For flows that make nothing twice: with everything killed, nobody tells Prefect, and Prefect retries no crashed run.
    """
    lost = [run for run in _runs(client, deployment, {"state": {"type": {"any_": OPEN}}}) if _is_lost(run, now)]
    for run in lost:
        state: Row = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "its process died; it goes on"}
        if run["run_count"] >= RUNS:
            state = {"type": "CRASHED", "message": f"its process died {RUNS} times"}
        body = {"state": state, "force": True}
        client.post(f"/flow_runs/{run['id']}/set_state", json=body).raise_for_status()
    return len(lost)


def _is_lost(run: Row, now: datetime) -> bool:
    age = now - _time(run["state"]["timestamp"])
    if run["state_type"] == "CRASHED":
        return run["run_count"] < RUNS and age < timedelta(seconds=get_settings().catch_up_seconds)
    if age < (SETTLED if run["state_type"] == "RUNNING" else GRACE):
        return False
    with database.transaction() as connection:
        return bool(connection.scalar(_TRY_LOCK, {"run": run["id"]}))


def superseded_by(client: httpx.Client, deployment_id: str, planned: datetime, now: datetime) -> datetime | None:
    """Return the time of a later run of a deployment that is due too; the ones before `planned` need not start.

    After an outage all runs that were planned start at once; for one that only tidies up, the last does it all.
    """
    due = _runs(client, {"id": deployment_id}, {"expected_start_time": {"before_": now.isoformat()}, "state": ALIVE})
    runs = {_time(run["expected_start_time"]): run for run in due}
    if later := [time for time in runs if time > planned]:
        return max(later)
    for time, run in runs.items():
        if time < planned and run["state_type"] == "SCHEDULED":
            body = {"state": {"type": "CANCELLED", "message": f"the run of {_minute(planned)} does it"}}
            client.post(f"/flow_runs/{run['id']}/set_state", json=body).raise_for_status()
    return None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _minute(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M %Z")
