"""`unitask doctor`: what is whole is told so, and each fault with its remedy; one fault hides no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from deployments.cli import app
from deployments.doctor import examine
from tasks_lib import database
from tasks_lib.auth import issue_token
from tasks_lib.settings import get_settings
from tests.conftest import Owner, forget_engine


def told(what: str) -> list[tuple[str, str]]:
    return [(finding.state, finding.text) for finding in examine() if finding.what == what]


def execute(statement: str) -> None:
    with database.transaction() as connection:
        connection.execute(sa.text(statement))


def test_everything_but_the_platform_is_good_when_the_machine_is_whole(owner: Owner) -> None:
    done = CliRunner().invoke(app, ["doctor", "-o", "json"])
    found = json.loads(done.stdout)
    assert {row["what"] for row in found if row["state"] == "wrong"} == {"platform"}
    assert done.exit_code == 1
    assert told("token") == [
        ("good", "UNITASK_TOKEN is good for tasks:cancel, tasks:create, tasks:read"),
        ("good", f"its project is {owner.project_id}"),
    ]


@pytest.mark.parametrize(
    ("what", "tampering", "remedy"),
    [
        ("database", "COMMENT ON SCHEMA unitask IS 'older'", "`unitask deploy` migrates it"),
        ("database", "UPDATE alembic_version SET version_num = '0001'", "`unitask deploy` migrates it"),
        ("task types", "DELETE FROM task_types WHERE name = 'qwen_image'", "`unitask deploy` writes it"),
        ("token", "UPDATE user_api_tokens SET revoked_at = now()", "Authentication failed"),
    ],
)
def test_remedy_is_named_when_the_database_is_not_as_it_should_be(
    owner: Owner, what: str, tampering: str, remedy: str
) -> None:
    assert "wrong" not in {state for state, _ in told(what)}
    execute(tampering)
    ((_, text),) = [(state, text) for state, text in told(what) if state == "wrong"]
    assert remedy in text


@pytest.mark.parametrize(
    ("setting", "value", "what", "text"),
    [
        ("STORAGE_URL", "nowhere://media", "storage", "UNITASK_STORAGE_URL cannot be used: Protocol not known"),
        ("DATABASE_URL", "postgresql://nobody:hunter2@127.0.0.1:1/x", "database", "connection failed"),
        ("DATABASE_URL", "nonsense", "settings", "UNITASK_DATABASE_URL: must be the URL of a Postgres"),
    ],
)
def test_fault_is_told_and_hides_no_other_when_a_setting_is_wrong(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, what: str, text: str
) -> None:
    monkeypatch.setenv(f"UNITASK_{setting}", value)
    get_settings.cache_clear()
    forget_engine()
    ((state, told_),) = told(what)
    assert state == "wrong"
    assert text in told_
    assert "hunter2" not in told_
    assert (told("engines") == []) is (what == "settings")


def test_token_is_good_when_its_user_has_several_projects(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(f"INSERT INTO projects (user_id, name) VALUES ('{owner.user_id}', 'another')")
    monkeypatch.setenv("UNITASK_TOKEN", issue_token(owner.user_id).secret.get_secret_value())
    get_settings.cache_clear()
    assert [state for state, _ in told("token")] == ["good", "note"]


def test_each_model_is_judged_by_its_own_kind_of_weights_when_models_are_described(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "flownet.pkl").write_bytes(b"weights")
    rows = {
        "rife": {"pipeline": "RIFE", "path": str(tmp_path / "flownet.pkl")},
        "there": {"pipeline": "ZImagePipeline", "path": str(tmp_path)},
        "hub": {"pipeline": "ZImagePipeline", "path": "some/model", "allow_download": True},
        "gone": {"pipeline": "ZImagePipeline", "path": str(tmp_path / "gone")},
    }
    monkeypatch.setenv("UNITASK_MODELS", json.dumps(rows))
    get_settings.cache_clear()
    states = {text.split("`")[1]: state for state, text in told("engines") if text.startswith("model")}
    assert states == {"rife": "good", "there": "good", "hub": "note", "gone": "wrong"}
