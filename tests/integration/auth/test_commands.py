"""Every command × every kind of credential. A command that is new belongs to one of these tables, or a test fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any
from uuid import uuid4

import pytest
import typer
from typer.testing import CliRunner

from tasks_lib import database
from tasks_lib.auth.sealing import ensure_key_pair
from tasks_lib.cli import app
from tasks_lib.errors import AuthenticationError, AuthorizationError, NotFoundError, TaskError
from tasks_lib.settings import get_settings
from tests.conftest import make_owner
from tests.integration.auth.scene import NOBODY, PARAMS, TYPE, Scene, everything, other_scopes, personal
from tests.logins import connected_as, login
from tests.unit.auth.signing import shared

Words = Callable[[Scene], list[str]]


def in_project(*words: str) -> Words:
    return lambda s: [*words, "--project", str(s.project)]


def with_files(*words: str) -> Words:
    """`params.json` and `rows.jsonl` stand for files with good parameters."""

    def make(s: Scene) -> list[str]:
        folder = s.picture.parent
        (folder / "params.json").write_text(json.dumps(PARAMS))
        (folder / "rows.jsonl").write_text(json.dumps(PARAMS) + "\n")
        return [str(folder / word) if word.endswith(("json", "jsonl")) else word for word in in_project(*words)(s)]

    return make


PEOPLE: dict[str, tuple[str, Words]] = {
    "create": ("tasks:create", with_files("create", TYPE, "--params", "params.json")),
    "batch": ("tasks:create", with_files("batch", "rows.jsonl", "--type", TYPE)),
    "upload": ("tasks:create", lambda s: in_project("upload", str(s.picture))(s)),
    "watch": ("tasks:read", lambda s: ["watch", str(s.cancelled), "-o", "json"]),
    "list": ("tasks:read", in_project("list")),
    "show": ("tasks:read", lambda s: ["show", str(s.pending)]),
    "cancel": ("tasks:cancel", lambda s: ["cancel", str(s.pending)]),
    "retry": ("tasks:create", lambda s: ["retry", str(s.cancelled)]),
    "dead": ("tasks:read", in_project("dead")),
    "tree": ("tasks:read", lambda s: ["tree", str(s.pending)]),
    "batch-cost": ("tasks:read", lambda s: ["batch-cost", str(s.pending)]),
    "history": ("tasks:read", lambda s: ["history", str(s.pending)]),
    "url": ("tasks:read", lambda s: ["url", f"{s.project}/uploads/a.png"]),
    "project create": ("tasks:create", lambda _: ["project", "create", f"a project {uuid4()}"]),
    "project list": ("tasks:read", lambda _: ["project", "list"]),
    "project set": ("tasks:create", lambda s: ["project", "set", str(s.project), "--aspect-ratio", "9:16"]),
    "shot create": ("tasks:create", in_project("shot", "create", "another")),
    "shot list": ("tasks:read", in_project("shot", "list")),
    "shot set": ("tasks:create", lambda s: ["shot", "set", str(s.shot), "--position", "3"]),
    "templates save": ("tasks:create", with_files("templates", "save", "new", TYPE, "--params", "params.json")),
    "templates list": ("tasks:read", in_project("templates", "list")),
    "templates use": ("tasks:create", in_project("templates", "use", "a template")),
    "templates delete": ("tasks:create", in_project("templates", "delete", "a template")),
    "credits balance": ("tasks:read", lambda _: ["credits", "balance"]),
    "credits ledger": ("tasks:read", lambda _: ["credits", "ledger"]),
    "credits budgets": ("tasks:read", lambda _: ["credits", "budgets"]),
    "keys set": ("tasks:create", lambda _: ["keys", "set", "replicate", "--key", "r8_something"]),
    "keys list": ("tasks:create", lambda _: ["keys", "list"]),
    "keys delete": ("tasks:create", lambda _: ["keys", "delete", "replicate"]),
}
"""What people call, with the scope that it takes."""

OF_THE_CALLER = {
    "list",
    "project create",
    "project list",
    "dead",
    "credits balance",
    "credits ledger",
    "credits budgets",
    "keys set",
    "keys list",
}
"""What speaks of the caller alone, so that nobody is a stranger to it."""

OPERATORS: dict[str, Words] = {
    "token create": lambda _: ["token", "create", "somebody new"],
    "token revoke": lambda _: ["token", "revoke", "utk_0123456789"],
    "credits grant": lambda _: ["credits", "grant", "the owner", "5"],
    "credits refund": lambda s: ["credits", "refund", str(s.pending)],
    "credits release": lambda s: ["credits", "release", str(s.pending)],
    "credits budget": lambda _: ["credits", "budget", "the owner", "5"],
    "credits reconcile": lambda _: ["credits", "reconcile"],
    "prune": lambda _: ["prune"],
}
"""What needs the login of the tables' owner, and asks for no token."""

OF_THE_SERVICE: dict[str, Words] = {"providers settle": lambda s: ["providers", "settle", str(s.pending), "--paid"]}
READS_TOKENS = {"token list"}
"""Shows prefixes and no secrets to whoever has a login to the database that may read them."""
TOUCHES_NO_DATA = {"types list", "types show", "models", "provider-webhooks", "provider-sim"}
OF_THE_MACHINE = {"up", "down", "deploy", "status", "gateway", "worker", "server", "doctor"}
"""Processes of the one who calls."""
OF_SCHEDULES: dict[str, Words] = {
    "schedule create": in_project("schedule", "create", "a template", "--cron", "0 9 * * *"),
    "schedule list": in_project("schedule", "list"),
    "schedule pause": in_project("schedule", "pause", "a schedule"),
    "schedule resume": in_project("schedule", "resume", "a schedule"),
    "schedule remove": in_project("schedule", "remove", "a schedule"),
}
"""What asks Prefect too, once it is known who calls; tests/flows/test_schedules.py has the rest."""


def commands(command: Any, name: str = "") -> Iterator[str]:
    """The names of all commands below one."""
    if not hasattr(command, "commands"):
        yield name
        return
    for word, below in command.commands.items():
        yield from commands(below, f"{name} {word}".strip())


def test_every_command_has_its_place_in_a_table() -> None:
    known = {*PEOPLE, *OPERATORS, *OF_THE_SERVICE, *READS_TOKENS, *TOUCHES_NO_DATA}
    # Whoever has run `main` in this process has put the machine's commands beside them.
    assert set(commands(typer.main.get_command(app))) - OF_THE_MACHINE - set(OF_SCHEDULES) == known
    (point,) = entry_points(group="unitask.commands")
    assert set(commands(typer.main.get_command(point.load()))) == OF_THE_MACHINE | set(OF_SCHEDULES)


def test_schedules_are_refused_when_nobody_valid_calls(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from deployments.cli import app as platform

    for credential, make in NOBODY.items():
        if credential == "malformed":
            continue  # no variable can hold it
        monkeypatch.setenv("UNITASK_TOKEN", make(scene))
        get_settings.cache_clear()
        for name, words in OF_SCHEDULES.items():
            error = CliRunner().invoke(platform, words(scene)).exception
            assert type(error) is AuthenticationError, (credential, name, error)


def run(monkeypatch: pytest.MonkeyPatch, scene: Scene, words: Words, token: str) -> TaskError | None:
    """The error that a command ends with, which `main` tells in one line."""
    monkeypatch.delenv("UNITASK_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("UNITASK_TOKEN", token)
    get_settings.cache_clear()
    done = CliRunner().invoke(app, words(scene))
    assert not token or token not in done.output
    if done.exception is None or isinstance(done.exception, SystemExit):
        return None
    assert isinstance(done.exception, TaskError), done.exception
    assert not token or token not in str(done.exception)
    return done.exception


def test_every_command_is_refused_when_nobody_valid_calls(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything()
    for credential, make in NOBODY.items():
        if credential == "malformed":
            continue  # no variable can hold it
        token = make(scene)
        for name, (_, words) in PEOPLE.items():
            error = run(monkeypatch, scene, words, token)
            assert type(error) is AuthenticationError, (credential, name, error)
        for name, words in OF_THE_SERVICE.items():
            assert type(run(monkeypatch, scene, words, token)) is AuthenticationError, (credential, name)
    assert everything() == before


def test_every_command_is_refused_when_the_token_lacks_its_scope(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything()
    worker = personal(scene, "worker")
    for name, (scope, words) in PEOPLE.items():
        for token in (other_scopes(scene, scope), worker):
            assert type(run(monkeypatch, scene, words, token)) is AuthorizationError, name
    for words in OF_THE_SERVICE.values():
        assert type(run(monkeypatch, scene, words, scene.owner.token)) is AuthorizationError
    assert everything() == before


def test_every_command_answers_as_for_a_missing_thing_when_it_is_somebody_elses(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_owner("another")
    before = everything()
    for name, (_, words) in PEOPLE.items():
        if name not in OF_THE_CALLER:
            for token in (other.token, shared(sub=str(other.user_id))):
                assert type(run(monkeypatch, scene, words, token)) is NotFoundError, name
    assert everything() == before


def test_every_command_passes_when_the_token_is_good(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_key_pair(get_settings().home)
    for name, (_, words) in PEOPLE.items():
        if name != "history":  # nothing is made yet
            assert run(monkeypatch, scene, words, scene.owner.token) is None, name


def test_operators_commands_are_refused_when_the_process_has_the_login_of_a_gateway(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything()
    with login(database.database_url(), "unitask_gateway") as url, connected_as(url):
        for name, words in OPERATORS.items():
            assert type(run(monkeypatch, scene, words, scene.owner.token)) is AuthorizationError, name
    assert everything() == before


def test_task_is_the_one_that_was_meant_when_files_dependencies_and_templates_are_given(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_TOKEN", scene.owner.token)
    get_settings.cache_clear()

    def unitask(*words: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, [*words, "-o", "json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def params_of(created: dict[str, Any]) -> dict[str, Any]:
        params: dict[str, Any] = unitask("show", created["task_id"])["params"]
        return params

    picture = str(scene.picture)
    first = unitask("create", "image_upscale", "--file", f"image_url={picture}", "--set", "scale_factor=4")
    assert params_of(first)["image_url"].startswith("unitask://")
    edge = f"{first['task_id']}:run_anyway"
    after = unitask("create", "single_image", "--set", "prompt=a", "--depends-on", edge)
    assert [tuple(map(str, row[:3])) for row in everything()["task_dependencies"]] == [
        (after["task_id"], first["task_id"], "run_anyway")
    ]
    clips = json.dumps([f"https://example.com/{i}.mp4" for i in range(2)])
    joined = params_of(unitask("create", "join_clips_orchestrator", "--set", f"clips={clips}"))
    assert joined["orchestrator_details"]["clips"][1] == {"url": "https://example.com/1.mp4"}

    assert unitask("templates", "use", "a template", "--quote").keys() == {"low", "high", "units"}
    used = unitask("templates", "use", "a template", "--set", "steps=7", "--file", f"image_urls={picture}")
    details = params_of(used)["orchestrator_details"]
    assert (details["steps"], len(details["image_urls"])) == (7, 2)
    for wrong in ("nonsense", f"{first['task_id']}:sometimes"):
        done = CliRunner().invoke(app, ["create", "single_image", "--set", "prompt=a", "--depends-on", wrong])
        assert "must be the id of a task, or ID:run_anyway" in str(done.exception)
