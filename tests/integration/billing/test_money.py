"""Quotes, prices, budgets, refunds and the books, on a real Postgres."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from db import tables
from tasks_lib import cancel_task, create_task, database, get_task, queue, quote, retry_task
from tasks_lib.billing import ledger
from tasks_lib.billing.cost import Quote
from tasks_lib.cli import app
from tasks_lib.creation import plant_children
from tasks_lib.errors import (
    ConflictError,
    EngineError,
    InsufficientCreditsError,
    NotFoundError,
    TaskValidationError,
)
from tasks_lib.queue import Output
from tasks_lib.settings import get_settings
from tasks_lib.types import table
from tasks_lib.types.registry import task_types
from tests.conftest import Owner, make_owner
from tests.integration.auth.test_foreign_things import LEAST
from tests.integration.types.test_golden_rows import GOLDEN, world
from tests.races.sessions import answer_of, at_once, claim, create_rows

__all__ = ["world"]

IMAGES = [f"https://example.com/{i}.jpg" for i in range(4)]
TRAVEL: dict[str, Any] = {"image_urls": IMAGES, "base_prompts": ["a walk"], "segment_frames": 9}
PICTURE = {"prompt": "a cat"}
OUTPUT = Output("film.mp4", {"media": {}})


@pytest.fixture
def enforced(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> Owner:
    """A user without credits, where credits are enforced."""
    monkeypatch.setenv("UNITASK_CREDITS_ENFORCED", "true")
    get_settings.cache_clear()
    return owner


def execute(statement: str, **values: Any) -> None:
    with database.transaction() as connection:
        connection.execute(sa.text(statement), values)


def charge_of(task_id: UUID) -> Decimal:
    """What a task's ledger rows took from the balance."""
    rows = tables.credit_ledger
    with database.transaction() as connection:
        return -Decimal(connection.scalar(sa.select(sa.func.sum(rows.c.amount)).where(rows.c.task_id == task_id)) or 0)


def finish(owner: Owner, task_type: str = "z_image_turbo", params: dict[str, Any] | None = None) -> UUID:
    """A complete task."""
    created = create_task(task_type, params or PICTURE, project_id=owner.project_id)
    (task,) = claim(task_types()[task_type].run_type, task_id=created.task_id)
    queue.complete(task.lease, OUTPUT)
    return created.task_id


UNIT_PRICED = sorted(t.name for t in task_types().values() if t.public and t.billing_type == "per_unit")


def test_charge_is_the_quote_when_types_have_a_price_for_each_unit(world: Owner) -> None:
    for name in UNIT_PRICED:
        params = json.loads((GOLDEN / f"{name}.json").read_text())["rows"][0]["params"]
        request = {key: value for key, value in params.items() if key in task_types()[name].params.model_fields}
        told = quote(name, request, project_id=world.project_id)
        created = create_task(name, request, project_id=world.project_id)
        (task,) = claim(task_types()[name].run_type, task_id=created.task_id)
        queue.complete(task.lease, OUTPUT)
        assert told.is_exact, name
        assert told.low > 0, name
        assert created.quote == told, name
        assert (charge_of(created.task_id), get_task(created.task_id).cost) == (told.low, told.low), name
    assert len(UNIT_PRICED) > 10
    assert ledger.reconcile().faults == ()


FACTORS: list[tuple[str, dict[str, Any], str]] = [
    ("single_image", {"resolution": "1024x1024", "model_name": "flux-pro"}, "0.15"),  # 0.025 * 3 * 2
    ("single_image", {"resolution": "512x512", "model_name": "flux-schnell"}, "0.0125"),
    ("image_upscale", {"scale_factor": 8.0}, "0.08"),
    ("replicate_upscale", {"scale_factor": 3.0}, "0.04"),
    ("animate_character", {"resolution": "480p"}, "0.2"),
    ("animate_character", {"resolution": "720p"}, "0.4"),
]


@pytest.mark.parametrize(("task_type", "given", "credits"), FACTORS)
def test_factors_count_in_quote_hold_and_charge_when_a_type_declares_them(
    owner: Owner, task_type: str, given: dict[str, Any], credits: str
) -> None:
    least = {
        name: LEAST[name] for name, info in task_types()[task_type].params.model_fields.items() if info.is_required()
    }
    created = create_task(task_type, least | given, project_id=owner.project_id)
    assert created.quote == Quote(Decimal(credits), Decimal(credits))
    assert -ledger.get_balance() == Decimal(credits)
    (task,) = claim(task_types()[task_type].run_type, task_id=created.task_id)
    queue.complete(task.lease, OUTPUT)
    assert charge_of(created.task_id) == Decimal(credits)


def test_every_declared_factor_is_among_the_cases_when_a_type_is_added() -> None:
    assert {case[0] for case in FACTORS} == {t.name for t in task_types().values() if t.cost_factors.as_json()}


@pytest.mark.parametrize(("seconds", "charged"), [(0, 1), (0.9, 1), (3.2, 4), (10_000, None)])
def test_charge_is_in_the_range_when_work_is_priced_by_time(world: Owner, seconds: float, charged: int | None) -> None:
    request = json.loads((GOLDEN / "individual_travel_segment.json").read_text())["request"]
    told = quote("individual_travel_segment", request, project_id=world.project_id)
    created = create_task("individual_travel_segment", request, project_id=world.project_id)
    (task,) = claim(task_id=created.task_id)
    execute("UPDATE tasks SET claimed_at = clock_timestamp() - make_interval(secs => :s)", s=seconds)
    queue.complete(task.lease, OUTPUT)
    cost = charge_of(created.task_id)
    assert told.low <= cost <= told.high
    # The seconds run on while the test does.
    assert cost == told.high if charged is None else cost in (charged * told.low, (charged + 1) * told.low)
    assert get_task(created.task_id).cost == cost


def test_travel_costs_the_sum_of_its_children_when_it_completes(owner: Owner) -> None:
    told = quote("travel_orchestrator", TRAVEL, project_id=owner.project_id)
    created = create_task("travel_orchestrator", TRAVEL, project_id=owner.project_id)
    assert created.quote == told
    assert ledger.get_balance() == -told.high
    (travel,) = queue.claim("api", "host", hosted=True)
    plant_children(travel)
    assert ledger.get_balance() == -told.high
    for _ in range(2):
        for task in queue.claim("gpu", "worker", limit=10):
            queue.complete(task.lease, OUTPUT)
    done = get_task(created.task_id)
    assert done.status == "Complete"
    assert done.cost == -ledger.get_balance()
    assert told.low <= -ledger.get_balance() <= told.high
    assert ledger.reconcile().faults == ()


def test_price_stays_when_the_owner_changes_it_after_the_create(owner: Owner) -> None:
    project = owner.project_id
    picture = create_task("z_image_turbo", PICTURE, project_id=project, idempotency_key="k")
    travel = create_task("travel_orchestrator", TRAVEL, project_id=project)
    assert picture.quote is not None
    assert travel.quote is not None
    execute("UPDATE task_types SET unit_cost = 7, base_cost_per_second = 7 WHERE name IN ('z_image_turbo')")
    execute("UPDATE task_types SET base_cost_per_second = 7 WHERE name LIKE 'travel_%'")
    assert quote("z_image_turbo", PICTURE, project_id=project) == Quote(Decimal(7), Decimal(7))
    assert quote("travel_orchestrator", TRAVEL, project_id=project).high > travel.quote.high
    assert create_task("z_image_turbo", PICTURE, project_id=project, idempotency_key="k").quote == picture.quote

    (task,) = claim("api", task_id=picture.task_id)
    queue.complete(task.lease, OUTPUT)
    assert charge_of(picture.task_id) == picture.quote.low
    (hosted,) = queue.claim("api", "host", hosted=True)
    plant_children(hosted)
    assert -ledger.get_balance() == picture.quote.low + travel.quote.high


def test_owners_price_stays_when_types_are_deployed_until_it_is_given_up(owner: Owner) -> None:
    engine = database.get_engine()
    declared = quote("z_image_turbo", PICTURE, project_id=owner.project_id)
    execute(
        "UPDATE task_types SET unit_cost = 7, cost_factors = '{\"modelType\": {\"m\": 2}}' WHERE name = 'z_image_turbo'"
    )
    for _ in range(2):
        table.sync(engine)
    priced = quote("z_image_turbo", {**PICTURE, "model_name": "m"}, project_id=owner.project_id)
    assert priced == Quote(Decimal(14), Decimal(14))
    given_up = "unit_cost = (declared ->> 'unit_cost')::numeric, cost_factors = declared -> 'cost_factors'"
    execute(f"UPDATE task_types SET {given_up} WHERE name = 'z_image_turbo'".replace("::", "\\:\\:"))
    table.sync(engine)
    assert quote("z_image_turbo", PICTURE, project_id=owner.project_id) == declared


@pytest.mark.parametrize(
    ("factors", "problem"),
    [
        ('{"colour": 2}', ("wrong", "cost_factors.colour")),
        ('{"resolution": {"2x": 2}}', ("note", "`resolution`, which its parameters")),
    ],
)
def test_price_is_a_finding_when_it_means_nothing(owner: Owner, factors: str, problem: tuple[str, str]) -> None:
    execute("UPDATE task_types SET cost_factors = CAST(:f AS jsonb) WHERE name = 'z_image_turbo'", f=factors)
    with database.transaction() as connection:
        ((state, text),) = table.findings(connection)
    assert state == problem[0]
    assert problem[1] in text
    # The other types go on.
    create_task("image_upscale", {"image_url": IMAGES[0]}, project_id=owner.project_id)


def test_create_is_refused_by_name_when_a_budget_is_spent(owner: Owner) -> None:
    price = quote("z_image_turbo", PICTURE, project_id=owner.project_id).low
    create = partial(create_task, "z_image_turbo", PICTURE, project_id=owner.project_id)
    ledger.set_budget(owner.user_id, "month", 2 * price)
    first = create()
    cancel_task(first.task_id)
    done = finish(owner)
    create()
    with pytest.raises(InsufficientCreditsError, match=r"0\.0065 credits and the budget of 0\.013 a month has 0 left"):
        create()
    with pytest.raises(InsufficientCreditsError, match="the budget of"):
        retry_task(first.task_id)
    ledger.refund(done)
    create()

    ledger.set_budget(owner.user_id, "month", None)
    ledger.set_budget(owner.user_id, "day", Decimal(0), project_id=owner.project_id)
    with pytest.raises(InsufficientCreditsError, match=f"the budget of 0 a day for project {owner.project_id} has 0"):
        create()
    other = make_owner("another")
    with pytest.raises(NotFoundError):
        ledger.set_budget(owner.user_id, "day", Decimal(1), project_id=other.project_id)
    with pytest.raises(TaskValidationError):
        ledger.set_budget(owner.user_id, "year", Decimal(1))
    execute("UPDATE credit_ledger SET held_at = held_at - interval '2 days'")
    ledger.set_budget(owner.user_id, "day", 3 * price, project_id=owner.project_id)
    create()


def test_budget_holds_when_thirty_two_creators_spend_at_once(owner: Owner) -> None:
    ledger.set_budget(owner.user_id, "week", Decimal(10))
    answers = at_once([create_rows(owner.project_id, hold="1.5")] * 32)
    assert sum(isinstance(answer, list) for answer in answers) == 6
    assert all(isinstance(answer, list | InsufficientCreditsError) for answer in answers)


def test_failure_costs_nothing_when_credits_are_enforced(enforced: Owner) -> None:
    with pytest.raises(InsufficientCreditsError, match=r"need 0\.0065 credits and the balance is 0"):
        create_task("z_image_turbo", PICTURE, project_id=enforced.project_id)
    assert ledger.grant(enforced.user_id, Decimal("0.01"), "welcome") == Decimal("0.01")
    created = create_task("z_image_turbo", PICTURE, project_id=enforced.project_id)
    assert ledger.get_balance() == Decimal("0.0035")
    (task,) = claim("api", task_id=created.task_id)
    queue.fail(task.lease, EngineError("no"))
    assert ledger.get_balance() == Decimal("0.01")


def test_refund_is_given_once_and_never_beyond_the_charge_when_asked_for(owner: Owner) -> None:
    task = finish(owner)
    charge = charge_of(task)
    with pytest.raises(ConflictError, match="was not charged 1 credits itself"):
        ledger.refund(task, Decimal(1))
    assert ledger.refund(task, Decimal("0.001"), "a stain") == Decimal("0.001")
    with pytest.raises(ConflictError, match="was not charged, or has its refund already"):
        ledger.refund(task)
    assert charge_of(task) == charge - Decimal("0.001")
    (entry, *_) = ledger.list_entries()
    assert (entry.kind, entry.details) == ("refund", {"reason": "a stain"})
    with pytest.raises(NotFoundError):
        ledger.refund(owner.user_id)

    create_task("travel_orchestrator", TRAVEL, project_id=owner.project_id)
    (travel,) = queue.claim("api", "host", hosted=True)
    plant_children(travel)
    for _ in range(2):
        for child in queue.claim("gpu", "worker", limit=10):
            queue.complete(child.lease, OUTPUT)
    before = ledger.get_balance()
    assert ledger.refund(travel.id) == get_task(travel.id).cost == ledger.get_balance() - before
    assert ledger.reconcile().faults == ()


def test_hold_is_given_back_when_its_task_project_or_user_is_deleted(owner: Owner) -> None:
    create = partial(create_task, "z_image_turbo", PICTURE, project_id=owner.project_id)
    task = create()
    execute("DELETE FROM tasks WHERE id = :id", id=task.task_id)
    assert ledger.get_balance() == 0
    create()
    execute("DELETE FROM projects")
    assert ledger.get_balance() == 0
    assert ledger.reconcile().faults == ()
    other = make_owner("another")
    create_task("z_image_turbo", PICTURE, project_id=other.project_id, token=other.token)
    execute("DELETE FROM users WHERE id = :id", id=other.user_id)
    assert {account.user_id for account in ledger.reconcile().accounts} == {owner.user_id}


def unknown(owner: Owner) -> tuple[UUID, UUID]:
    """A task that has failed because nobody knows whether its provider did the work, and the job."""
    created = create_task("z_image_turbo", PICTURE, project_id=owner.project_id)
    (task,) = claim("api", task_id=created.task_id)
    lease = {"p_task_id": task.id, "p_lease_id": task.lease.lease_id}
    begun = {"p_part": 0, "p_provider": "fal", "p_model": "m", "p_concurrency": 9, "p_per_minute": 99}
    (job,) = database.call("begin_provider_job", **lease, **begun)
    database.call("end_provider_job", p_id=job["id"], p_state="unknown")
    queue.fail(task.lease, EngineError("nobody knows"))
    return task.id, job["id"]


@pytest.mark.parametrize("how", ["known", "released"])
def test_hold_of_an_unknown_outcome_is_listed_until_it_is_settled(owner: Owner, how: str) -> None:
    task, job = unknown(owner)
    # Its next life holds for itself.
    retry_task(task)
    (kept,) = ledger.reconcile().kept_holds
    assert (kept.task_id, kept.life, kept.jobs) == (
        task,
        0,
        [{"provider": "fal", "job_id": None, "state": "unknown"}],
    )
    shown = CliRunner().invoke(app, ["credits", "reconcile"])
    assert shown.exit_code == 0
    assert str(task) in shown.stdout.replace("\n", "")
    if how == "known":
        database.call("end_provider_job", p_id=job, p_state="failed")
    else:
        assert ledger.release(task) == kept.amount
    books = ledger.reconcile()
    assert (books.kept_holds, books.faults) == ((), ())
    assert books.accounts[0].held == kept.amount


@pytest.mark.parametrize(
    ("tampering", "fault"),
    [
        ("UPDATE credit_ledger SET amount = amount + 1 WHERE kind = 'capture'", "charged"),
        ("DELETE FROM credit_ledger WHERE kind = 'hold'", "0 holds"),
        ("DELETE FROM credit_ledger WHERE kind = 'capture'", "not settled"),
        ("UPDATE credit_ledger SET amount = amount + 1 WHERE kind = 'refund'", "refunded more"),
        ("UPDATE credit_ledger SET kind = 'release' WHERE kind = 'capture'", "complete and not charged"),
        ("UPDATE tasks SET cost = cost + 1", "balance is"),
    ],
)
def test_contradiction_is_named_when_the_books_were_tampered_with(owner: Owner, tampering: str, fault: str) -> None:
    ledger.refund(finish(owner))
    assert ledger.reconcile().faults == ()
    execute(tampering)
    shown = CliRunner().invoke(app, ["credits", "reconcile", "-o", "json"])
    assert shown.exit_code == 1
    assert any(fault in row["fault"] for row in json.loads(shown.stdout)["faults"])


def test_people_see_prices_and_their_own_credits_when_they_ask_the_command_line(owner: Owner) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    assert run("create", "z_image_turbo", "--set", "prompt=a cat", "--quote") == "0.0065 credits\n"
    asked = json.loads(run("create", "z_image_turbo", "--set", "prompt=a cat", "--quote", "-o", "json"))
    assert asked == {"low": "0.006500", "high": "0.006500", "units": 1}
    created = json.loads(run("create", "z_image_turbo", "--set", "prompt=a cat", "-o", "json"))
    assert created["quote"] == asked
    assert "somebody has 4.9935 credits" in run("credits", "grant", "somebody", "5", "--reason", "welcome")
    assert "4.9935 credits are left" in run("credits", "balance")
    assert "welcome" in run("credits", "ledger")
    run("credits", "budget", "somebody", "2.5", "--per", "week")
    assert run("credits", "budgets") == "2.5 credits a week\n"
    run("credits", "budget", "somebody", "none", "--per", "week")
    assert json.loads(run("credits", "budgets", "-o", "json")) == []
    task = finish(owner)
    assert "0.0065 credits are given back" in run("credits", "refund", str(task))
    with pytest.raises(NotFoundError):
        ledger.get_balance(user_id=make_owner("another").user_id)
    assert isinstance(answer_of(partial(ledger.grant, owner.user_id, Decimal("-1"))), TaskValidationError)
