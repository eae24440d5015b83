"""Every task type: a request as the web client of old sends it, and the exact rows that are stored for it.

`golden/<type>.json` holds both, and the rows of the children that an orchestrator plants. A change of a stored row is
written there by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

import tasks_lib
from db import tables
from tasks_lib import database, queue
from tasks_lib.creation import plant_children
from tasks_lib.types.registry import task_types
from tests.conftest import Owner

GOLDEN = Path(__file__).parent / "golden"
SHOT, FILM, CHILD, IMAGE, VARIANT, SLOT, NEXT_SLOT = (
    UUID(f"00000000-0000-4000-8000-0000000000{n:02d}") for n in (1, 10, 11, 20, 30, 40, 41)
)

# Made anew for every task: a label, a time, a placeholder's id.
VOLATILE = {
    r"^sm_travel_orchestrator_\d{8}_[0-9a-f]{6}$": "<label>",
    r"^join_clips_orchestrator_\d{8}_[0-9a-f]{6}$": "<label>",
    r"^\d{17}$": "<run id>",
    r"^(?!00000000-0000-4000)[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$": "<new id>",
}


@pytest.fixture
def world(owner: Owner) -> Owner:
    """A project with a shot, a film with one segment, and an image with a variant and two places on the timeline."""
    rows: list[tuple[sa.Table, dict[str, Any]]] = [
        (tables.shots, {"id": SHOT, "project_id": owner.project_id, "name": "a shot"}),
        (tables.generations, {"id": FILM, "project_id": owner.project_id, "type": "video"}),
        (
            tables.generations,
            {
                "id": CHILD,
                "project_id": owner.project_id,
                "type": "video",
                "parent_generation_id": FILM,
                "child_order": 1,
            },
        ),
        (tables.generations, {"id": IMAGE, "project_id": owner.project_id, "type": "image"}),
        (
            tables.generation_variants,
            {"id": VARIANT, "generation_id": IMAGE, "variant_type": "original", "is_primary": True, "location": "x"},
        ),
        (tables.shot_generations, {"id": SLOT, "shot_id": SHOT, "generation_id": IMAGE, "timeline_frame": 0}),
        (tables.shot_generations, {"id": NEXT_SLOT, "shot_id": SHOT, "generation_id": IMAGE, "timeline_frame": 60}),
    ]
    with database.transaction() as connection:
        for table, values in rows:
            connection.execute(sa.insert(table).values(**values))
    return owner


def stable(value: Any) -> Any:
    """A stored value with what is made anew for every task replaced by its kind."""
    if isinstance(value, str):
        return next((kind for pattern, kind in VOLATILE.items() if re.match(pattern, value)), value)
    if isinstance(value, dict):
        return {key: stable(item) for key, item in value.items()}
    return [stable(item) for item in value] if isinstance(value, list) else value


def stored_rows(world: Owner, task_type: str, call: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that a request leaves."""
    if call == "create_task":
        tasks_lib.create_task(task_type, request, project_id=world.project_id)
    else:
        getattr(tasks_lib, call)(request, project_id=world.project_id)
    return rows_of(tables.tasks.c.task_type == task_type)


def rows_of(which: sa.ColumnElement[bool], *more: sa.ColumnElement[Any]) -> list[dict[str, Any]]:
    """What is stored of tasks, in the order of their creation, and what each holds."""
    t, ledger = tables.tasks, tables.credit_ledger
    columns = (t.c.task_type, t.c.run_type, t.c.status, t.c.hosted, t.c.params, t.c.placement, t.c.model, t.c.price)
    statement = (
        sa.select(*columns, *more, (-ledger.c.amount).label("hold"))
        .select_from(t.outerjoin(ledger, ledger.c.task_id == t.c.id))
        .where(which)
        .order_by(t.c.created_at, t.c.child_key)
    )
    with database.transaction() as connection:
        rows = connection.execute(statement).mappings()
        return [stable({**row, "hold": None if row["hold"] is None else str(row["hold"])}) for row in rows]


def planted(task_type: str) -> list[dict[str, Any]]:
    """The rows of the children, planted as its host does it, each with its key and those of what it waits for."""
    if task_types()[task_type].plan is None:
        return []
    (orchestrator,) = queue.claim("api", "a host", hosted=True)
    plant_children(orchestrator)
    t, edge, before = tables.tasks, tables.task_dependencies, tables.tasks.alias("before")
    waits_for = sa.func.array(
        sa.select(before.c.child_key)
        .select_from(edge.join(before, before.c.id == edge.c.depends_on))
        .where(edge.c.task_id == t.c.id)
        .order_by(before.c.child_key)
        .scalar_subquery()
    )
    return rows_of(t.c.parent_task_id == orchestrator.id, t.c.child_key.label("key"), waits_for.label("after"))


def test_rows_are_the_golden_ones_when_the_web_clients_requests_are_sent(world: Owner) -> None:
    public = {name for name, declared in task_types().items() if declared.public}
    assert {path.stem for path in GOLDEN.glob("*.json")} == public
    planned: set[str] = set()
    for path in sorted(GOLDEN.glob("*.json")):
        golden = json.loads(path.read_text())
        rows = stored_rows(world, path.stem, golden["call"], golden["request"])
        assert rows == golden["rows"], path.name
        children = planted(path.stem)
        assert children == golden.get("children", []), path.name
        planned |= {child["task_type"] for child in children}
    assert public | planned == set(task_types()), "every type has its golden row"
