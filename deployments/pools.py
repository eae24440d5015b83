"""The work pools as Prefect and the database show them, and what keeps work waiting in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import httpx
import sqlalchemy as sa

from db import tables
from deployments.manifest import TAG
from flows.controls import WORKERS, Controls, find, read_controls
from flows.fleet import coming_workers, most_workers
from tasks_lib.settings import get_settings
from tasks_lib.types.registry import task_types

START_SECONDS = 60
"""In this time a worker starts, or is replaced; what waits longer waits for a reason."""
MAINTENANCE = "maintenance"
MAINTENANCE_LATE = timedelta(minutes=5)


class Finding(NamedTuple):
    """What a person should know. A `note` keeps no work waiting."""

    what: Literal["database", "task types", "pools"]
    state: Literal["note", "wrong"]
    text: str


@dataclass(frozen=True)
class Waiting:
    """What waits, and for how long the oldest has."""

    count: int = 0
    oldest_seconds: float | None = None

    def told(self, kind: str) -> str:
        """Return it in words: `3 tasks wait, the oldest for 2 min`."""
        if not self.count:
            return f"no {kind} waits"
        some = f"1 {kind} waits" if self.count == 1 else f"{self.count} {kind}s wait"
        return f"{some}, the oldest for {duration(self.oldest_seconds or 0)}"


@dataclass
class PoolStatus:
    """A pool: its state and queues in Prefect, and what its worker flows and their work are doing."""

    state: str
    workers: int
    """Processes that start the pool's flow runs (`prefect worker start`)."""
    queues: dict[str, str]
    worker_flows: int = 0
    coming_worker_flows: int = 0
    waiting_tasks: int = 0
    oldest_waiting_seconds: float | None = None
    paused: list[str] = field(default_factory=list)
    limit: int | None = None
    """How many worker flows Prefect's limits allow."""


class Work(NamedTuple):
    """What the database tells of a pool: its live worker flows, and the tasks that could be claimed."""

    worker_flows: int = 0
    tasks: Waiting = Waiting()


class Rows(NamedTuple):
    """What the database tells: of each pool, and which deployments were registered."""

    work: dict[str, Work]
    deployments: frozenset[str] = frozenset()


def duration(seconds: float) -> str:
    """Return a duration in the largest unit that fits: `40 s`, `12 min`, `5 h`, `3 d`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def read_rows(connection: sa.Connection) -> Rows:
    """Return what waits and what lives in each pool, and what was registered."""
    r = tables.registrations
    deployments = connection.scalars(sa.select(r.c.name).where(r.c.memory.has_key("schedules")))
    return Rows(_read_work(connection), frozenset(deployments))


def _read_work(connection: sa.Connection) -> dict[str, Work]:
    # Tasks of types without code wait for that, and not here.
    statement = sa.text(
        """
        SELECT p.run_type, count(t.id),
               extract(epoch FROM clock_timestamp() - min(greatest(t.created_at, t.run_after)))::float,
               (SELECT count(*) FROM workers w
                WHERE w.run_type = p.run_type AND w.stopped_at IS NULL AND NOT w.drain
                  AND w.last_seen_at > clock_timestamp() - make_interval(secs => :lease))
        FROM unnest(CAST(:pools AS text[])) AS p(run_type)
        LEFT JOIN tasks t ON t.run_type = p.run_type AND t.status = 'Pending' AND t.deps_pending = 0
                                 AND t.run_after <= clock_timestamp() AND t.task_type = ANY (:types)
        GROUP BY p.run_type
        """
    )
    rows = connection.execute(
        statement, {"pools": [*WORKERS], "types": [*task_types()], "lease": get_settings().lease_seconds}
    )
    return {pool: Work(workers, Waiting(count, oldest)) for pool, count, oldest, workers in rows}


def examine_pools(
    client: httpx.Client, rows: Rows, *, starting: bool = False
) -> tuple[dict[str, dict[str, Any]], list[Finding]]:
    """Return the pools as plain data, and what is to be said about them.

    While the platform is `starting`, a pool without a worker process is nothing to talk about.
    """
    pools: dict[str, dict[str, Any]] = {}
    findings: list[Finding] = []
    for name in WORKERS:
        row = find(client, f"/work_pools/{name}")
        if row is None:
            findings.append(
                Finding("pools", "wrong", f"the work pool `{name}` is not there; `unitask deploy` makes it")
            )
            continue
        controls, done = read_controls(client, name), rows.work.get(name, Work())
        coming = 0 if controls.missing else len(coming_workers(client, name))
        pool = _pool_status(client, row, controls, done, coming)
        pools[name] = asdict(pool)
        if not pool.workers and not starting:
            text = f"nobody works on the pool {name}: `unitask up`, or `prefect worker start --pool {name}`"
            findings.append(Finding("pools", "wrong", text))
        findings += _judge_workers(name, controls, done, coming)
    return pools, findings + list(_judge_requests(client, rows.deployments))


def _pool_status(client: httpx.Client, row: dict[str, Any], controls: Controls, work: Work, coming: int) -> PoolStatus:
    path = f"/work_pools/{row['name']}"
    return PoolStatus(
        state=row["status"].lower(),
        workers=sum(worker["status"] == "ONLINE" for worker in _rows(client, f"{path}/workers/filter")),
        queues={queue["name"]: queue["status"].lower() for queue in _rows(client, f"{path}/queues/filter")},
        worker_flows=work.worker_flows,
        coming_worker_flows=coming,
        waiting_tasks=work.tasks.count,
        oldest_waiting_seconds=work.tasks.oldest_seconds,
        paused=list(controls.paused),
        limit=controls.limit,
    )


def _judge_workers(name: str, controls: Controls, work: Work, coming: int) -> Iterator[Finding]:
    waiting, lasts = work.tasks.told("task"), (work.tasks.oldest_seconds or 0) > START_SECONDS
    if controls.missing:
        yield Finding("pools", "wrong", f"{controls.missing}; {waiting}")
        return
    for what, remedy in controls.paused.items():
        yield Finding(
            "pools", "wrong", f"the {what} is paused in Prefect, so nothing is claimed for {name}: {waiting}; {remedy}"
        )
    wanted = most_workers(Controls(), name)
    limited = controls.limit is not None and controls.limit < wanted and work.tasks.count > 0
    if limited and (controls.limit == 0 or lasts):
        text = (
            f"the {controls.limited_by} has a limit of {controls.limit} in Prefect, of {wanted} worker flows: {waiting}"
        )
        yield Finding("pools", "wrong", text)
    elif lasts and not work.worker_flows and not controls.paused:
        text = f"no worker flow of {name} lives, and {coming} are on their way: {waiting}"
        yield Finding("pools", "wrong", f"{text}; look at the runs of `{WORKERS[name]}` in Prefect")


def _judge_requests(client: httpx.Client, registered: frozenset[str]) -> Iterator[Finding]:
    """Judge the deployments that people and schedules run, and the queues that their runs wait in."""
    body = {"deployments": {"tags": {"all_": [TAG]}}}
    deployments = [row for row in _rows(client, "/deployments/filter", body) if row["name"] not in WORKERS.values()]
    for name in sorted(registered - {row["name"] for row in deployments} - {*WORKERS.values()}):
        yield Finding("pools", "wrong", f"the deployment `{name}` is not there; `unitask deploy` registers it")
    places = sorted({(row["work_pool_name"], row["work_queue_name"]) for row in deployments if row["work_pool_name"]})
    for pool, queue in places:
        yield from _judge_queue(client, pool, queue)
    for row in deployments:
        if not row["work_pool_name"]:
            text = (
                f"the deployment `{row['name']}` has no work pool, so its runs never start; `unitask deploy` mends it"
            )
            yield Finding("pools", "wrong", text)
        if row["paused"]:
            text = f"the deployment `{row['name']}` is paused in Prefect: its schedules make no runs"
            yield Finding("pools", "note", f"{text}; switch it on in Prefect, on its page")
        elif row["name"] == MAINTENANCE:
            yield from _judge_maintenance(client, row)


def _judge_queue(client: httpx.Client, pool: str, queue: str) -> Iterator[Finding]:
    pool_row, queue_row = (find(client, path) for path in (f"/work_pools/{pool}", f"/work_pools/{pool}/queues/{queue}"))
    places = {"work_pools": {"name": {"any_": [pool]}}, "work_pool_queues": {"name": {"any_": [queue]}}}
    late = _late_runs(client, places, timedelta(0))
    name = f"work queue `{queue}` of `{pool}`"
    if queue_row and queue_row["is_paused"]:
        remedy = f"`prefect work-queue resume {queue} --pool {pool}`"
        yield Finding("pools", "wrong", f"the {name} is paused in Prefect: {late.told('run')}; {remedy}")
    elif pool_row and pool_row["is_paused"]:
        if late.count:
            yield Finding("pools", "wrong", f"{late.told('run')} in the {name}, whose pool is paused in Prefect")
    elif (late.oldest_seconds or 0) > START_SECONDS:
        limits = {name: queue_row, f"work pool `{pool}`": pool_row}
        set_ = [f"the {what} has a limit of {row['concurrency_limit']} in Prefect" for what, row in limits.items()
                if row and row["concurrency_limit"] is not None]  # fmt: skip
        yield Finding("pools", "wrong", f"{late.told('run')} in the {name}{': ' if set_ else ''}{' and '.join(set_)}")


def _judge_maintenance(client: httpx.Client, row: dict[str, Any]) -> Iterator[Finding]:
    if not any(schedule["active"] for schedule in row["schedules"]):
        yield Finding("pools", "note", f"`{MAINTENANCE}` has no active schedule in Prefect: nothing old is deleted")
        return
    late = _late_runs(client, {"deployments": {"id": {"any_": [row["id"]]}}}, MAINTENANCE_LATE)
    if late.count:
        yield Finding("pools", "note", f"`{MAINTENANCE}` does not run: {late.told('run')}")


def _late_runs(client: httpx.Client, where: dict[str, Any], by: timedelta) -> Waiting:
    """Return the runs that should have started some time ago."""
    now = datetime.now(UTC)
    late = {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"before_": (now - by).isoformat()}}
    body = {"flow_runs": late} | where
    count = client.post("/flow_runs/count", json=body).raise_for_status().json()
    if not count:
        return Waiting()
    (oldest,) = _rows(client, "/flow_runs/filter", body | {"sort": "EXPECTED_START_TIME_ASC", "limit": 1})
    return Waiting(count, (now - datetime.fromisoformat(oldest["expected_start_time"])).total_seconds())


def _rows(client: httpx.Client, path: str, body: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.post(path, json=body or {}).raise_for_status().json()
    return found
