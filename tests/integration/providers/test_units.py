"""The units that a task is priced by are the jobs that a provider is asked to do for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from deployments.gateway import create_app
from tasks_lib import create_task, database, get_task, quote
from tasks_lib.billing import ledger
from tasks_lib.cli import app
from tasks_lib.errors import TaskError
from tasks_lib.providers.requests import BUILDS
from tasks_lib.providers.routing import route
from tasks_lib.providers.simulator import Simulator
from tasks_lib.queue import leases
from tasks_lib.settings import get_settings
from tasks_lib.types.registry import task_types
from tests.conftest import Owner
from tests.integration.auth.test_foreign_things import least
from tests.integration.providers.conftest import until, working
from tests.integration.types.test_golden_rows import GOLDEN, world

__all__ = ["world"]

SERVED = sorted(name for name, declared in task_types().items() if name in BUILDS or declared.run_type == "api")
LEAVES = [name for name in SERVED if task_types()[name].plan is None]


def requests(task_type: str) -> Iterator[dict[str, Any]]:
    """What a type can be asked for: the least, what clients send, and each list and number at its most."""
    yield least(task_type)
    golden = json.loads((GOLDEN / f"{task_type}.json").read_text())["rows"][0]["params"]
    fields = task_types()[task_type].params.model_fields
    yield {name: value for name, value in golden.items() if name in fields}
    for name, schema in task_types()[task_type].params.model_json_schema()["properties"].items():
        for form in (schema, *schema.get("anyOf", ())):
            given = least(task_type).get(name)
            if form.get("type") == "array" and isinstance(given, list) and "maxItems" in form:
                yield {**least(task_type), name: (given * form["maxItems"])[: form["maxItems"]]}
                yield {**least(task_type), name: (given * 3)[:3]}
            elif form.get("type") == "integer" and "maximum" in form:
                yield {**least(task_type), name: form["maximum"]}


def test_every_type_of_a_provider_is_among_the_cases() -> None:
    assert set(BUILDS) == set(LEAVES)
    several = {name for name in LEAVES if any("image_urls" in given for given in requests(name))}
    assert several == {"wan_2_2_i2v"}
    (most,) = {max(len(given["image_urls"]) for given in requests("wan_2_2_i2v"))}
    assert most == 200


@pytest.mark.parametrize("task_type", LEAVES)
def test_quote_hold_and_charge_count_the_jobs_when_a_provider_does_the_work(
    sim: Simulator, world: Owner, task_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_FAL_PER_MINUTE", "10000")
    monkeypatch.setenv("UNITASK_FAL_CONCURRENCY", "200")
    get_settings.cache_clear()
    made: dict[str, Any] = {}
    for given in requests(task_type):
        try:
            told = quote(task_type, given, project_id=world.project_id)
        except TaskError:
            continue  # a number that goes with others only
        created = create_task(task_type, given, project_id=world.project_id)
        assert created.quote is not None
        assert (created.quote, created.quote.units) == (told, told.units)
        made[str(created.task_id)] = told
    assert len(made) >= 2
    one = min(told.low / told.units for told in made.values())
    assert sum(told.high for told in made.values()) == -ledger.get_balance()

    async def main() -> None:
        async with working(slots=16):
            await until(lambda: all(get_task(task_id).is_final for task_id in made), 120)

    asyncio.run(main())
    with database.transaction() as connection:
        rows = connection.execute(sa.text("SELECT task_id::text, job_id FROM provider_jobs".replace("::", "\\:\\:")))
        owner_of = {job_id: task_id for task_id, job_id in rows}
    asked = [owner_of[job_id] for job_id in sim.jobs]
    for task_id, told in made.items():
        done = get_task(task_id)
        assert (done.status, done.error_message) == ("Complete", None)
        assert asked.count(task_id) == told.units, task_id
        assert done.cost == told.low
        assert done.cost >= one * asked.count(task_id)
    assert -ledger.get_balance() == sum(told.low for told in made.values())
    assert ledger.reconcile().faults == ()


def test_two_hundred_images_cost_a_hundred_and_ninety_nine_videos_when_a_turbo_travel_is_quoted(owner: Owner) -> None:
    images = [f"https://example.com/{i}.jpg" for i in range(200)]
    given = {"image_urls": images, "base_prompts": ["a walk"]}
    told = quote("wan_2_2_i2v", given, project_id=owner.project_id)
    assert (told.low, told.high, told.units) == (Decimal("49.75"), Decimal("49.75"), 199)
    assert told.in_words == "49.75 credits for 199 units of work"
    created = create_task("wan_2_2_i2v", given, project_id=owner.project_id)
    assert get_task(created.task_id).quote == told
    shown = CliRunner().invoke(app, ["show", str(created.task_id)], env={"COLUMNS": "200"}).stdout
    assert "49.75 credits for 199 units of work" in shown
    headers = {"Authorization": f"Bearer {owner.token}"}
    answer = TestClient(create_app()).get(f"/v1/tasks/{created.task_id}", headers=headers).json()
    assert answer["quote"] == {"low": "49.750000", "high": "49.750000", "units": 199}
    given["image_urls"] = images[:1]
    assert quote("wan_2_2_i2v", given, project_id=owner.project_id).low == Decimal("0.25")


@pytest.mark.parametrize("task_type", LEAVES)
def test_units_are_the_jobs_when_any_provider_that_can_serve_a_type_is_asked(owner: Owner, task_type: str) -> None:
    declared, settings = task_types()[task_type], get_settings()
    for given in requests(task_type):
        try:
            created = create_task(task_type, given, project_id=owner.project_id)
        except TaskError:
            continue
        row = get_task(created.task_id).params
        for provider in BUILDS[task_type]:
            served = route(task_type, settings.model_copy(update={"providers": {task_type: provider}}))
            assert declared.units(row) == len(served.works(row)), given


def test_failed_task_costs_nothing_when_some_of_its_jobs_were_done(sim: Simulator, owner: Owner) -> None:
    """What the provider did is paid by the operator, and not charged to the user."""
    images = [f"https://example.com/{i}.jpg" for i in range(4)]
    given = {"image_urls": images, "base_prompts": ["first", "bad", "third"]}
    sim.fault("status", "failed", times=99, prompt="bad")
    created = create_task("wan_2_2_i2v", given, project_id=owner.project_id)
    assert created.quote is not None
    assert -ledger.get_balance() == Decimal("0.75")

    async def main() -> None:
        async with working():
            await until(lambda: get_task(created.task_id).is_final)

    asyncio.run(main())
    assert get_task(created.task_id).status == "Failed"
    assert ledger.get_balance() == 0
    assert ledger.reconcile().faults == ()


def test_hold_grows_with_the_units_when_an_owner_prices_them_by_time(owner: Owner) -> None:
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "UPDATE task_types SET billing_type = 'per_second', base_cost_per_second = 0.01"
                " WHERE name = 'wan_2_2_i2v'"
            )
        )
    images = [f"https://example.com/{i}.jpg" for i in range(11)]
    told = quote("wan_2_2_i2v", {"image_urls": images, "base_prompts": ["a"]}, project_id=owner.project_id)
    assert (told.low, told.high, told.units) == (Decimal("0.01"), Decimal("6.00"), 10)
    assert leases.backlog("api", ["wan_2_2_i2v"]) == 0
