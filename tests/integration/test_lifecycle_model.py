"""The life of tasks against a small model in memory: random moves, and after each one the table agrees with the model.

Each sequence of moves is one transaction that is rolled back; a savepoint undoes a move that is refused.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from db import tables
from tasks_lib import database
from tasks_lib.errors import ConflictError, LeaseLostError, TaskError

# `make property` shares its sequences between processes, each with a database and a seed of its own.
SEQUENCES = int(os.environ.get("UNITASK_TEST_SEQUENCES", "25"))
PARTS = 1 if SEQUENCES < 1_000 else 2
SEED = int(os.environ.get("UNITASK_TEST_SEED") or random.randrange(1 << 32))
FINAL = {"Complete", "Failed", "Cancelled"}
BROKEN = {"Failed", "Cancelled"}
MAX_ATTEMPTS = 3
INDEX = st.integers(min_value=0, max_value=1_000)

T, D = tables.tasks, tables.task_dependencies
ROWS = sa.select(
    T.c.id,
    T.c.status,
    T.c.attempt,
    T.c.lease_id,
    T.c.retries,
    T.c.deps_pending,
    sa.select(sa.func.count()).where(D.c.task_id == T.c.id, ~D.c.settled).scalar_subquery().label("unsettled"),
)
# Each takes a round trip, after each move: so it is one statement.
LEDGER_IS_LEVEL = sa.text("SELECT NOT EXISTS (SELECT FROM unitask.ledger_faults())")


@dataclass
class Edge:
    """A dependency, and whether the dependant still waits for it."""

    depends_on: UUID
    policy: str
    settled: bool = False


@dataclass
class Model:
    """What one task's row should say."""

    id: UUID
    parent: UUID | None = None
    hosted: bool = False
    status: str = "Pending"
    attempt: int = 0
    lease_id: int = 0
    life: int = 0
    by_dependency: bool = False
    edges: list[Edge] = field(default_factory=list)

    @property
    def waits_for(self) -> int:
        """Edges that are not settled."""
        return sum(not edge.settled for edge in self.edges)


class World:
    """All tasks, and the rules of their lives, one task at a time."""

    def __init__(self) -> None:
        self.tasks: dict[UUID, Model] = {}

    def children(self, id_: UUID) -> list[Model]:
        return [task for task in self.tasks.values() if task.parent == id_]

    def add(self, task: Model) -> None:
        self.tasks[task.id] = task
        for edge in task.edges:
            dependency = self.tasks[edge.depends_on]
            edge.settled = dependency.status == "Complete" or (
                dependency.status in BROKEN and edge.policy == "run_anyway"
            )
        if any(not edge.settled and self.tasks[edge.depends_on].status in BROKEN for edge in task.edges):
            task.by_dependency = True
            self.end(task, "Failed")

    def end(self, task: Model, status: str) -> None:
        """A task ends, and with it whatever that decides: first those that wait for it, then its parent."""
        task.status = status
        ended = [task]
        while ended:
            first = ended.pop(0)
            for other, edge in self.waiting_for(first):
                if first.status == "Complete" or edge.policy == "run_anyway":
                    edge.settled = True
                else:
                    other.status, other.by_dependency = "Failed", True
                    ended.append(other)
            if first.parent is not None and self.settles(self.tasks[first.parent]):
                ended.append(self.tasks[first.parent])

    def waiting_for(self, task: Model) -> list[tuple[Model, Edge]]:
        return [
            (other, edge)
            for other in self.tasks.values()
            for edge in other.edges
            if edge.depends_on == task.id and not edge.settled and other.status == "Pending"
        ]

    def settles(self, parent: Model) -> bool:
        ends = {child.status for child in self.children(parent.id)}
        if parent.status in FINAL or not ends or not ends <= FINAL:
            return False
        parent.status = next(status for status in ("Failed", "Cancelled", "Complete") if status in ends)
        return True

    def release(self, task: Model, *, retryable: bool) -> None:
        """A lease ends without a result."""
        if (task.hosted and self.children(task.id)) or (retryable and task.attempt < MAX_ATTEMPTS):
            task.status = "Pending"
        else:
            self.end(task, "Failed")

    def cancel(self, task: Model) -> None:
        tree = [task, *self.children(task.id)]
        stopped = [each for each in tree if each.status not in FINAL]
        for each in stopped:
            each.status, each.by_dependency = "Cancelled", False
        for each in reversed(stopped):
            self.end(each, "Cancelled")

    def again(self, task: Model) -> set[UUID]:
        """What a retry brings back; without the task itself the retry is refused."""
        touched: set[UUID] = set()
        todo = [task]
        while todo:
            each = todo.pop()
            if each.id not in touched:
                touched.add(each.id)
                todo += self.children(each.id)
                todo += [
                    other
                    for other in self.tasks.values()
                    if other.by_dependency and any(edge.depends_on == each.id for edge in other.edges)
                ]
        if task.parent is not None:
            touched.add(task.parent)
        again = {id_ for id_ in touched if self.tasks[id_].status in BROKEN}
        while stuck := {id_ for id_ in again if self._is_stuck(self.tasks[id_], again)}:
            again -= stuck
        return again

    def _is_stuck(self, task: Model, again: set[UUID]) -> bool:
        return any(
            edge.policy == "fail" and edge.depends_on not in again and self.tasks[edge.depends_on].status in BROKEN
            for edge in task.edges
        )

    def retry(self, again: set[UUID]) -> None:
        for id_ in again:
            task = self.tasks[id_]
            task.status, task.attempt, task.life, task.by_dependency = "Pending", 0, task.life + 1, False
        for id_ in again:
            for edge in self.tasks[id_].edges:
                status = self.tasks[edge.depends_on].status
                edge.settled = status == "Complete" or (status in BROKEN and edge.policy == "run_anyway")


def some(*statuses: str, hosted: bool | None = None) -> Callable[[Any], bool]:
    """Whether there is a task of these statuses: rules that would do nothing are not chosen."""
    return lambda machine: any(
        task.status in statuses and hosted in (None, task.hosted) for task in machine.world.tasks.values()
    )


class Lifecycle(RuleBasedStateMachine):
    """Moves that people and workers make, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.connection = database.get_engine().connect()
        self.transaction = self.connection.begin()
        users, projects = tables.users, tables.projects
        user = self.connection.execute(sa.insert(users).values(name="somebody").returning(users.c.id)).scalar_one()
        self.project = self.connection.execute(
            sa.insert(projects).values(user_id=user, name="a project").returning(projects.c.id)
        ).scalar_one()
        self.world = World()
        # Something of everything to begin with: a chain, and a hosted family of which one member is held.
        self.create(on=[], hosted=False)
        self.create(on=[(0, "fail")], hosted=False)
        self.create(on=[(0, "run_anyway"), (1, "fail")], hosted=True)
        self.create(on=[], hosted=True)
        self.claim(hosted=True)
        self.plant(index=0, count=2, joined=True)
        self.claim(hosted=False)

    def teardown(self) -> None:
        self.transaction.rollback()
        self.connection.close()

    def call(self, function: str, **arguments: Any) -> Any:
        """Call an SQL function that must not refuse."""
        return database.call_in(self.connection, function, **arguments)

    def refused(self, function: str, **arguments: Any) -> type[TaskError] | None:
        """The class of the error that a call raises; what it did is undone."""
        try:
            with database.translated(), self.connection.begin_nested():
                self.call(function, **arguments)
        except TaskError as error:
            return type(error)
        return None

    def add(self, task: Model) -> None:
        """Put a new task at the end of the queue, whatever its id, so that a sequence can be repeated."""
        self.world.add(task)
        created_at = sa.func.now() + sa.func.make_interval(0, 0, 0, 0, 0, 0, len(self.world.tasks))
        t = tables.tasks
        self.connection.execute(sa.update(t).where(t.c.id == task.id).values(created_at=created_at))

    def one(self, index: int, *statuses: str) -> Model | None:
        """Some task of the given statuses."""
        found = [task for task in self.world.tasks.values() if not statuses or task.status in statuses]
        return found[index % len(found)] if found else None

    def held(self, task: Model) -> dict[str, Any]:
        return {"p_task_id": task.id, "p_lease_id": task.lease_id}

    @rule(on=st.lists(st.tuples(INDEX, st.sampled_from(["fail", "run_anyway"])), max_size=3), hosted=st.booleans())
    def create(self, on: list[tuple[int, str]], hosted: bool) -> None:
        roots = [task for task in self.world.tasks.values() if task.parent is None]
        edges = {roots[index % len(roots)].id: policy for index, policy in on} if roots else {}
        row = {
            "task_type": "travel_orchestrator" if hosted else "travel_segment",
            "project_id": str(self.project),
            "hold": "1",
            "depends_on": [{"task_id": str(id_), "policy": policy} for id_, policy in edges.items()],
        }
        (answer,) = self.call("create_tasks", p_rows=json.dumps([row]))
        task = Model(answer["task_id"], hosted=hosted, edges=[Edge(id_, policy) for id_, policy in edges.items()])
        self.add(task)
        assert answer["status"] == task.status

    @rule(hosted=st.booleans())
    @precondition(some("Pending"))
    def claim(self, hosted: bool) -> None:
        self.connection.execute(sa.update(tables.tasks).values(run_after=sa.text("now() - interval '1 hour'")))
        rows = self.call(
            "claim_tasks",
            p_run_type="api" if hosted else "gpu",
            p_worker_id="worker",
            p_limit=1,
            p_lease_seconds=60.0,
            p_hosted=hosted,
        )
        ready = {
            task.id
            for task in self.world.tasks.values()
            if task.status == "Pending" and task.hosted == hosted and not task.waits_for
        }
        assert bool(rows) == bool(ready)
        for row in rows:
            assert row["id"] in ready
            task = self.world.tasks[row["id"]]
            task.status, task.lease_id = "Processing", task.lease_id + 1
            task.attempt += 0 if hosted and self.world.children(task.id) else 1

    @rule(index=INDEX, count=st.integers(1, 3), joined=st.booleans())
    @precondition(some("Processing", hosted=True))
    def plant(self, index: int, count: int, joined: bool) -> None:
        parents = [task for task in self.world.tasks.values() if task.hosted and task.status == "Processing"]
        if not parents:
            return
        parent = parents[index % len(parents)]
        base = {"task_type": "travel_segment", "project_id": str(self.project), "parent_task_id": str(parent.id)}
        rows: list[dict[str, Any]] = [{**base, "child_key": f"{i}", "hold": "0.25"} for i in range(count)]
        if joined:
            edges = [{"index": i} for i in range(count)]
            rows.append({**base, "child_key": "last", "hold": "0.25", "depends_on": edges})
        planted = bool(self.world.children(parent.id))
        if planted:
            # The plan is pure: a second host plans what the first one did.
            rows = rows[:1]
        answers = self.call("plant_children", **self.held(parent), p_rows=json.dumps(rows))
        assert [answer["created"] for answer in answers] == [not planted] * len(rows)
        if planted:
            return
        for answer in answers[:count]:
            self.add(Model(answer["task_id"], parent=parent.id))
        if joined:
            edges_of_last = [Edge(answer["task_id"], "fail") for answer in answers[:count]]
            self.add(Model(answers[-1]["task_id"], parent=parent.id, edges=edges_of_last))

    @rule(index=INDEX, repeats=st.booleans())
    @precondition(some("Processing", hosted=False))
    def complete(self, index: int, repeats: bool) -> None:
        leaves = [task for task in self.world.tasks.values() if not task.hosted and task.status == "Processing"]
        if not leaves:
            return
        task = leaves[index % len(leaves)]
        arguments = {**self.held(task), "p_output_location": "film.mp4", "p_result": "{}", "p_cost": Decimal("0.1")}
        self.call("complete_task", **arguments)
        self.world.end(task, "Complete")
        if repeats:
            self.call("complete_task", **arguments)

    @rule(index=INDEX, retryable=st.booleans())
    @precondition(some("Processing"))
    def fail(self, index: int, retryable: bool) -> None:
        if task := self.one(index, "Processing"):
            report = {"p_error_kind": "engine", "p_error_message": "no", "p_retryable": retryable}
            self.call("fail_task", **self.held(task), **report)
            self.world.release(task, retryable=retryable)

    @rule(index=INDEX)
    @precondition(some("Processing"))
    def give_back(self, index: int) -> None:
        if task := self.one(index, "Processing"):
            self.call("return_task", **self.held(task))
            task.status = "Pending"
            task.attempt -= 0 if task.hosted and self.world.children(task.id) else 1

    @rule(index=INDEX)
    @precondition(some("Processing"))
    def lose_worker(self, index: int) -> None:
        if task := self.one(index, "Processing"):
            past = sa.text("clock_timestamp() - interval '1 second'")
            table = tables.tasks
            self.connection.execute(sa.update(table).where(table.c.id == task.id).values(leased_until=past))
            assert self.call("rescue_tasks") == [{"rescue_tasks": 1}]
            self.world.release(task, retryable=True)

    @rule(index=INDEX)
    @precondition(some("Pending", "Processing"))
    def cancel(self, index: int) -> None:
        if task := self.one(index, "Pending", "Processing"):
            self.call("cancel_task", p_task_id=task.id, p_reason="not wanted")
            self.world.cancel(task)

    @rule(index=INDEX)
    @precondition(some("Failed", "Cancelled", "Complete"))
    def retry(self, index: int) -> None:
        if task := self.one(index, *sorted(FINAL)):
            again = self.world.again(task)
            if task.id not in again:
                assert self.refused("retry_task", p_task_id=task.id) is ConflictError
                return
            (answer,) = self.call("retry_task", p_task_id=task.id)
            assert set(answer["retry_task"]) == again
            self.world.retry(again)

    @rule(index=INDEX)
    @precondition(some("Pending", "Processing", *FINAL))
    def report_with_an_old_lease(self, index: int) -> None:
        task = self.one(index)
        assert task is not None
        # Leases begin with 1; of a task that had at most one, the other is one that nobody was given.
        other = task.lease_id - 1 if task.lease_id > 1 else task.lease_id + 1
        old = {"p_task_id": task.id, "p_lease_id": other}
        complete = {"p_output_location": "stale.mp4", "p_result": "{}"}
        assert self.refused("complete_task", **old, **complete) is LeaseLostError
        assert self.refused("return_task", **old) is LeaseLostError

    @invariant()
    def table_agrees_with_the_model(self) -> None:
        rows = self.connection.execute(ROWS).all()
        assert all(row.deps_pending == row.unsettled for row in rows)
        assert {row.id: (row.status, row.attempt, row.lease_id, row.retries) for row in rows} == {
            task.id: (task.status, task.attempt, task.lease_id, task.life) for task in self.world.tasks.values()
        }
        # Of those that failed it depends on the order in which their dependencies ended.
        assert {row.id: row.deps_pending for row in rows if row.status not in FINAL} == {
            task.id: task.waits_for for task in self.world.tasks.values() if task.status not in FINAL
        }

    @invariant()
    def parents_are_settled_exactly_when_their_children_are(self) -> None:
        for task in self.world.tasks.values():
            if children := self.world.children(task.id):
                assert (task.status in FINAL) == all(child.status in FINAL for child in children)

    @invariant()
    def ledger_is_level(self) -> None:
        assert self.connection.execute(LEDGER_IS_LEVEL).scalar_one()


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(PARTS))
def test_table_agrees_with_the_model_when_moves_come_in_any_order(database_url: str, part: int) -> None:
    print(f"UNITASK_TEST_SEED={SEED}, {SEQUENCES} sequences in {PARTS} parts")
    run_state_machine_as_test(
        seed(SEED + part)(Lifecycle),
        settings=settings(
            max_examples=SEQUENCES // PARTS,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
