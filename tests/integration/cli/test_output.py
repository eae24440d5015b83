"""What the commands print: whole lines and ids that can be typed again, and nothing of foreign text that a terminal
would obey."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

import tasks_lib
from db import tables
from tasks_lib import accounts, database, queue
from tasks_lib.cli import app
from tasks_lib.cli.output import console, errors
from tasks_lib.errors import NotFoundError, ProviderError, TaskError, TaskValidationError
from tests.conftest import Owner, make_owner

UNITASK = str(Path(sys.executable).parent / "unitask")
TYPE = "single_image"
HOSTILE = "red \x1b[31m \x1b]0;a title\x07 \x9b2J \u202egnp.exe [bold]b[/bold] [/x] \r\x08 :smile:"
"""A colour, a title, a clearing of the screen, letters that run backwards, markup, a line that is written over."""
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def create(owner: Owner, prompt: str = "a walk", **options: Any) -> UUID:
    params = {"prompt": prompt}
    return tasks_lib.create_task(TYPE, params, project_id=owner.project_id, token=owner.token, **options).task_id


def named(owner: Owner, id_: str) -> UUID:
    """A task of that very id."""
    made = create(owner)
    with database.transaction() as connection:
        connection.execute(sa.delete(tables.credit_ledger).where(tables.credit_ledger.c.task_id == made))
        connection.execute(sa.update(tables.tasks).where(tables.tasks.c.id == made).values(id=UUID(id_)))
    return UUID(id_)


def unitask(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def said(*words: str) -> str:
    done = unitask(*words)
    assert done.exception is None, done.exception
    return done.output


def refused(*words: str) -> TaskError:
    error = unitask(*words).exception
    assert isinstance(error, TaskError), error
    return error


@pytest.fixture(params=[60, 80, 120, 200])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A terminal of so many columns."""
    monkeypatch.setattr(console, "_width", request.param)
    monkeypatch.setattr(console, "_height", 25)
    return int(request.param)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """No terminal, and no COLUMNS that says how wide it is."""
    for each in (console, errors):
        monkeypatch.setattr(each, "_width", None)
        monkeypatch.setattr(each, "_environ", {})


def test_first_column_names_a_task_for_every_command_when_the_terminal_is_narrow_or_wide(
    owner: Owner, width: int
) -> None:
    tasks = {create(owner, f"picture {i}") for i in range(3)}
    lines = said("list").splitlines()
    assert all(len(line) <= width for line in lines)
    shown = [line.split()[0] for line in lines[1:]]
    assert {UUID(json.loads(said("show", id_, "-o", "json"))["id"]) for id_ in shown} == tasks
    first, second, third = shown
    assert "was cancelled" in said("cancel", first)
    assert "will run again" in said("retry", first)
    assert first in said("tree", first)
    assert "Pending" in said("create", TYPE, "--set", "prompt=b", "--depends-on", f"{second}:run_anyway")
    assert json.loads(said("list", "--batch", third, "-o", "json"))[:1] == []
    assert "Pending" in said("batch-cost", third)
    with database.transaction() as connection:
        edges = connection.scalars(sa.select(tables.task_dependencies.c.depends_on)).all()
    assert [str(id_)[: len(second)] for id_ in edges] == [second]


@pytest.mark.usefixtures("pipe")
def test_lines_are_whole_when_the_output_is_no_terminal(owner: Owner) -> None:
    task = create(owner)
    (claimed,) = queue.claim("gpu", "a worker") or queue.claim("api", "a worker")
    queue.fail(claimed.lease, ProviderError("no " + "very " * 100 + "good", retryable=False))
    for command in ("list", "dead"):
        lines = said(command).splitlines()
        assert len(lines) == 2
        assert lines[1].startswith(str(task))
        assert lines[1].rstrip().endswith("very good")


def test_beginning_names_ones_own_task_alone_when_others_begin_so(owner: Owner) -> None:
    mine = named(owner, "abcd1234-0000-4000-8000-000000000001")
    other = make_owner("another")
    theirs = named(other, "abcd1234-0000-4000-8000-000000000002")
    assert str(mine) in said("show", "ABCD1234")
    assert str(mine) in said("show", str(mine)[:13])
    missing = "abcd1234-0000-4000-8000-000000000003"
    assert str(refused("show", missing)).replace(missing, str(theirs)) == str(refused("show", str(theirs)))
    only_theirs = named(other, "eeee1234-0000-4000-8000-000000000002")
    for command in ("show", "cancel", "retry", "watch", "tree", "batch-cost", "history"):
        error = refused(command, str(only_theirs)[:8])
        assert type(error) is NotFoundError, command
        assert str(error).replace("eeee", "ffff") == str(refused(command, "ffff1234")), command


def test_candidates_are_named_when_a_beginning_is_ambiguous(owner: Owner) -> None:
    ids = [str(named(owner, f"abcd1234-0000-4000-8000-00000000000{i}")) for i in range(2)]
    other = str(named(make_owner("another"), "abcd1234-0000-4000-8000-000000000009"))
    error = refused("cancel", "abcd")
    assert isinstance(error, TaskValidationError)
    assert all(id_ in str(error) for id_ in ids)
    assert other not in str(error)
    assert [task.status for task in tasks_lib.list_tasks()] == ["Pending", "Pending"]
    assert "too short" in str(refused("show", "abc"))
    # A list does not show what would be refused.
    console._width, before = 80, console._width
    try:
        assert all(id_ in said("list") for id_ in ids)
    finally:
        console._width = before


def test_beginning_is_found_by_ranges_of_the_key_when_there_are_many_tasks(owner: Owner) -> None:
    task = create(owner)
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO tasks (project_id, user_id, task_type, run_type, params)"
                " SELECT :project, :user, 'single_image', 'gpu', '{}' FROM generate_series(1, 20000)"
            ),
            {"project": owner.project_id, "user": owner.user_id},
        )
        connection.execute(sa.text("ANALYZE tasks"))
        begun = connection.scalar(sa.text("SELECT sum(seq_scan) FROM pg_stat_user_tables WHERE relname = 'tasks'"))
    assert str(task) in said("show", str(task)[:8])
    said("list")
    with database.transaction() as connection:
        connection.execute(sa.text("SELECT pg_stat_clear_snapshot()"))
        ended = connection.scalar(sa.text("SELECT sum(seq_scan) FROM pg_stat_user_tables WHERE relname = 'tasks'"))
    assert ended == begun


def test_children_are_listed_when_they_are_asked_for_and_not_else(owner: Owner) -> None:
    params = {"image_urls": ["https://example.com/0.jpg"] * 2, "base_prompts": ["a"], "segment_frames": 9}
    travel = tasks_lib.create_travel_between_images_task(params, project_id=owner.project_id).task_id
    (claimed,) = queue.claim("api", "a host", hosted=True)
    tasks_lib.creation.plant_children(claimed)

    def types(*words: str) -> list[str]:
        return [task["task_type"] for task in json.loads(said("list", *words, "-o", "json"))]

    assert types() == ["travel_orchestrator"]
    assert types("--status", "pending") == []
    assert types("--status", "PROCESSING") == ["travel_orchestrator"]
    assert sorted(types("--all")) == ["travel_orchestrator", "travel_segment", "travel_stitch"]
    for flag in ("--children-of", "--parent"):
        assert types(flag, str(travel)[:8]) == ["travel_segment", "travel_stitch"]
    assert "there are Pending, Processing" in str(refused("list", "--status", "done"))
    stitch = next(line for line in said("list", "--all").splitlines() if "travel_stitch" in line)
    assert "waits for segment_000" in stitch


def test_what_had_ended_is_named_when_it_is_cancelled(owner: Owner) -> None:
    task = create(owner)
    assert unitask("cancel", str(task)).exit_code == 0
    again = unitask("cancel", str(task))
    assert (again.exit_code, "had ended as Cancelled before" in again.stderr) == (0, True)
    tasks_lib.retry_task(task)
    (claimed,) = queue.claim("gpu", "a worker") or queue.claim("api", "a worker")
    queue.complete(claimed.lease, queue.Output("a.png", {"media": {}}))
    for words in (["cancel", str(task)], ["cancel", str(task), "-o", "json"], ["cancel", "--batch", str(task)]):
        done = unitask(*words)
        assert (done.exit_code, "had ended as Complete before" in done.stderr) == (1, True)
        assert done.stdout.strip() in ("", "[]")
    assert "Exit code 1" in " ".join(said("cancel", "-h").split())


def test_no_character_that_a_terminal_obeys_is_printed_when_texts_are_hostile(owner: Owner) -> None:
    user = accounts.ensure_user(HOSTILE)
    accounts.ensure_project(owner.user_id, f"{HOSTILE} project")
    task = create(owner, HOSTILE)
    tasks_lib.create_template(f"{HOSTILE} template", TYPE, {"prompt": HOSTILE}, project_id=owner.project_id)
    tasks_lib.auth.issue_token(user, label=HOSTILE)
    (claimed,) = queue.claim("gpu", "a worker") or queue.claim("api", "a worker")
    queue.fail(claimed.lease, ProviderError(HOSTILE, retryable=False))
    here = ["--project", str(owner.project_id)]
    with database.transaction() as connection:
        connection.execute(sa.text("SELECT unitask.grant_credits(:user, 1, :reason)"), {"user": user, "reason": "x"})
    outputs = {
        " ".join(words): (done := unitask(*words)).output + str(done.exception or "" if done.exit_code else "")
        for words in (
            ["list"], ["show", str(task)], ["dead"], ["tree", str(task)], ["templates", "list", *here],
            ["credits", "reconcile"], ["token", "list"], ["credits", "ledger"],
            ["templates", "save", f"{HOSTILE} other", TYPE, "--open", "prompt", *here],
            ["credits", "grant", HOSTILE, "5", "--reason", HOSTILE],
            ["watch", str(task)],
        )
    }  # fmt: skip
    assert {name: found[0] for name, text in outputs.items() if (found := OBEYED.search(text))} == {}
    assert "red [31m" in outputs["list"]
    assert "[bold]b[/bold] [/x]" in outputs[f"show {task}"]


def test_error_has_no_escape_and_no_traceback_when_its_text_is_hostile(
    owner: Owner, tmp_path: Path, database_url: str
) -> None:
    done = _in_terminal([UNITASK, "show", HOSTILE.replace("\x00", "")], {"UNITASK_TOKEN": owner.token})
    assert "there is nothing with the id" in done
    assert "Traceback" not in done
    assert "\x1b]0;" not in done
    assert "\x9b" not in done


def _in_terminal(command: list[str], environment: dict[str, str]) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env={**os.environ, **environment})
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        written += part
    process.wait()
    os.close(ours)
    return written.decode(errors="replace")


def test_times_are_rfc_3339_when_the_answer_is_json(owner: Owner) -> None:
    create(owner)
    (task,) = json.loads(said("list", "-o", "json"))
    rfc = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d|Z)")
    assert rfc.fullmatch(task["created_at"])
    tasks_lib.create_template("t", TYPE, {"prompt": "a"}, project_id=owner.project_id)
    assert rfc.fullmatch(json.loads(said("templates", "list", "-o", "json"))[0]["updated_at"])
    assert rfc.fullmatch(json.loads(said("token", "list", "-o", "json"))[0]["created_at"])


def test_fault_of_our_own_is_one_line_with_its_own_code_when_something_breaks(database_url: str) -> None:
    broken = "import tasks_lib.cli.types as t; t.list_task_types = None; from tasks_lib.cli import main; main()"
    command = [sys.executable, "-c", broken, "types", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr.startswith("a fault of this program's own: TypeError: ")
    assert len(done.stderr.splitlines()) == 1
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "UNITASK_DEBUG": "1"}
    )
    assert "Traceback" in done.stderr


def test_exit_code_is_two_when_the_command_is_called_wrongly(owner: Owner) -> None:
    for words in (["list", "--nonsense"], ["nonsense"], ["show"], ["list", "--limit", "0"]):
        assert unitask(*words).exit_code == 2, words


def test_version_help_and_completion_are_there_when_they_are_asked_for() -> None:
    def run(*words: str, **environment: str) -> str:
        done = subprocess.run(
            [UNITASK, *words], capture_output=True, text=True, check=False, env={**os.environ, **environment}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("--version") == "unitask 0.1.0\n"
    assert "Exit codes: 0" in " ".join(run("-h").split())
    for command in ("list", "credits", "credits balance", "status"):
        assert run(*command.split(), "-h") == run(*command.split(), "--help")
    assert "complete_bash" in run(_UNITASK_COMPLETE="source_bash")
    asked = {"_UNITASK_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    assert run(**asked, COMP_WORDS="unitask create im").split() == ["image_inpaint", "image_upscale"]
    assert "Failed" in run(**asked | {"COMP_CWORD": "3"}, COMP_WORDS="unitask list --status F").split()
