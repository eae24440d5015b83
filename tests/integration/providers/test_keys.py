"""Keys that users bring: used for their tasks alone, and shown to nobody."""

from __future__ import annotations

import hashlib
import logging

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from typer.testing import CliRunner

from db import tables
from tasks_lib import create_task, database, get_task
from tasks_lib.auth.sealing import ensure_key_pair
from tasks_lib.availability import find_maker
from tasks_lib.cli import app
from tasks_lib.errors import AuthorizationError, NotFoundError, TaskValidationError
from tasks_lib.providers.keys import delete_key, list_keys, set_key
from tasks_lib.providers.simulator import Simulator
from tasks_lib.settings import Settings, get_settings
from tasks_lib.types.registry import get_task_type
from tests.conftest import Owner, make_owner
from tests.integration.providers.conftest import KEY, create, job_rows, run_to_end

OWN = "key-of-a-user-2846"
SERVICE = "s" * 40


@pytest.fixture(autouse=True)
def service(sim: Simulator) -> None:
    """The service's key pair, in the test's own home."""
    ensure_key_pair(get_settings().home)


def account(key: str) -> str:
    """How the provider's books name who pays, for a key of fal."""
    return hashlib.sha256(f"Key {key}".encode()).hexdigest()[:8]


def test_user_pays_with_their_own_key_when_they_have_given_one(
    sim: Simulator, owner: Owner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    # Room for one job at a time at each account: the two do not wait for each other.
    monkeypatch.setenv("UNITASK_FAL_CONCURRENCY", "1")
    get_settings.cache_clear()
    sim.latency = 0.5
    other = make_owner("another")
    set_key("fal", SecretStr(OWN))
    # Whoever waits for tasks of two people is the service.
    monkeypatch.setenv("UNITASK_SERVICE_KEY", SERVICE)
    mine = create(owner, "fal", prompt="mine")
    theirs = create_task("qwen_image", {"prompt": "theirs"}, project_id=other.project_id, token=other.token).task_id
    monkeypatch.setenv("UNITASK_TOKEN", SERVICE)
    get_settings.cache_clear()
    run_to_end(mine, theirs)
    assert {get_task(mine).status, get_task(theirs).status} == {"Complete"}
    assert {job.input["prompt"]: job.account for job in sim.jobs.values()} == {
        "mine": account(OWN),
        "theirs": account(KEY),
    }
    assert sim.most("fal") == 2
    assert {row["account"] for row in job_rows()} == {"fal", f"fal/{owner.user_id}"}
    assert OWN not in caplog.text
    with database.transaction() as connection:
        for table in tables.metadata.tables.values():
            rows = connection.scalars(
                sa.select(sa.cast(sa.literal_column(f'"{table.name}"'), sa.Text)).select_from(table)
            )
            assert not [row for row in rows if OWN in row], table.name


def test_key_of_a_user_is_no_use_when_it_is_copied_to_another(
    sim: Simulator, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_key("fal", SecretStr(OWN))
    thief = make_owner("a thief")
    with database.transaction() as connection:
        connection.execute(sa.update(tables.provider_keys).values(user_id=thief.user_id))
    monkeypatch.setenv("UNITASK_TOKEN", thief.token)
    get_settings.cache_clear()
    task_id = create(thief, "fal")
    run_to_end(task_id)
    assert get_task(task_id).error_kind == "authentication"
    assert not sim.jobs


def test_service_pays_again_when_a_user_takes_their_key_back(sim: Simulator, owner: Owner) -> None:
    set_key("fal", SecretStr("an-older-key"))
    set_key("fal", SecretStr(OWN))
    assert [key.provider for key in list_keys()] == ["fal"]
    delete_key("fal")
    assert list_keys() == []
    task_id = create(owner, "fal")
    run_to_end(task_id)
    assert [job.account for job in sim.jobs.values()] == [account(KEY)]
    with pytest.raises(NotFoundError):
        delete_key("fal")


def test_key_is_refused_when_it_is_none(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskValidationError, match="known are replicate, fal"):
        set_key("elsewhere", SecretStr(OWN))
    for word in ("", "two words", "line\n", "ключ"):
        with pytest.raises(TaskValidationError, match="printable"):
            set_key("fal", SecretStr(word))
    monkeypatch.setenv("UNITASK_SERVICE_KEY", SERVICE)
    get_settings.cache_clear()
    with pytest.raises(AuthorizationError):
        set_key("fal", SecretStr(OWN), token=SERVICE)


def test_task_may_be_created_without_a_setting_when_its_user_has_a_key(owner: Owner) -> None:
    alone = Settings(database_url="", fal_key=None)
    with pytest.raises(TaskValidationError, match="unitask keys set fal"):
        find_maker(get_task_type("qwen_image"), None, owner.user_id, alone)
    set_key("fal", SecretStr(OWN))
    assert find_maker(get_task_type("qwen_image"), None, owner.user_id, alone).run_type == "api"


def test_command_takes_a_key_without_showing_it(owner: Owner) -> None:
    runner = CliRunner()
    given = runner.invoke(app, ["keys", "set", "fal"], input=f"{OWN}\n")
    assert given.exit_code == 0
    assert OWN not in given.output
    listed = runner.invoke(app, ["keys", "list"])
    assert "fal" in listed.output
    assert OWN not in listed.output
    assert runner.invoke(app, ["keys", "delete", "fal"]).exit_code == 0
    assert list_keys() == []
