"""How long a running task will still take."""

from __future__ import annotations

import sqlalchemy as sa

from db import tables
from tasks_lib import database

RECENT = 1_000
"""Of so many tasks that were claimed last in each pool the durations count: one index scan, however full the table."""

LEAST_SHARE = 0.03
"""A rate that was measured over less says nothing by itself."""


def remaining_seconds(elapsed: float, share: float, typical: float | None) -> float | None:
    """How many seconds are left of a task that has run for `elapsed`, of which the share 0 to 1 is done.

    `typical` is what such tasks take, the task's own rate gives `elapsed / share`. The total is taken as their mean, in
    which the own rate weighs `share`: history speaks at the beginning, the task itself at the end. None when neither
    says anything.
    """
    if typical is None and share < LEAST_SHARE:
        return None
    if typical is not None and share == 0:
        return max(0.0, typical - elapsed)
    own = elapsed / share
    total = own if typical is None else (1 - share) * typical + share * own
    return (1 - share) * total


def typical_seconds() -> dict[tuple[str, str | None], float]:
    """What tasks took lately, by type and model: the median over those that completed, of their last attempt.

    An orchestrator's time runs from its start, since it is claimed again by every new host.
    """
    pools = sa.values(sa.column("run_type", sa.Text), sa.column("hosted", sa.Boolean), name="pools").data(
        [(run_type, hosted) for run_type in ("gpu", "api") for hosted in (False, True)]
    )
    t = tables.tasks
    began = sa.case((t.c.hosted, t.c.started_at), else_=t.c.claimed_at)
    recent = (
        sa.select(t.c.task_type, t.c.model, t.c.status, sa.extract("epoch", t.c.finished_at - began).label("seconds"))
        .where(t.c.run_type == pools.c.run_type, t.c.hosted == pools.c.hosted, t.c.claimed_at.is_not(None))
        .order_by(t.c.claimed_at.desc())
        .limit(RECENT)
        .lateral("recent")
    )
    median = sa.func.percentile_cont(0.5).within_group(recent.c.seconds)
    statement = (
        sa.select(recent.c.task_type, recent.c.model, median)
        .select_from(pools.join(recent, sa.true()))
        .where(recent.c.status == "Complete")
        .group_by(recent.c.task_type, recent.c.model)
    )
    with database.transaction() as connection:
        return {(row[0], row[1]): float(row[2]) for row in connection.execute(statement)}
