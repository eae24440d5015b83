"""Projects and shots by Python and by the command line; a user whom only a login service knows begins with one."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

import tasks_lib
from db import tables
from tasks_lib import accounts, database
from tasks_lib.cli import app
from tasks_lib.errors import AuthorizationError, ConflictError, NotFoundError, TaskError, TaskValidationError
from tasks_lib.settings import get_settings
from tests.conftest import Owner, make_owner
from tests.logins import connected_as, login
from tests.unit.auth.signing import SECRET, shared


@pytest.fixture
def newcomer(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A verified token of somebody without a row; it is the default one."""
    monkeypatch.setenv("UNITASK_JWT_SECRET", SECRET)
    get_settings.cache_clear()
    user = str(uuid4())
    token = shared(sub=user, user_metadata={"name": "the owner"})
    monkeypatch.setenv("UNITASK_TOKEN", token)
    get_settings.cache_clear()
    return user


def users() -> dict[str, str]:
    with database.transaction() as connection:
        return {str(row.id): row.name for row in connection.execute(sa.select(tables.users))}


def test_user_of_a_login_service_begins_when_a_first_project_is_made(newcomer: str) -> None:
    assert tasks_lib.list_projects() == []
    with pytest.raises(NotFoundError, match="there is no project"):
        tasks_lib.create_task("image_upscale", {"image_url": "https://example.com/a.png"}, project_id=uuid4())
    assert users() == {}
    with login(database.database_url(), "unitask_gateway") as url, connected_as(url):
        project = tasks_lib.create_project("holidays", aspect_ratio="16:9")
        task = tasks_lib.create_image_generation_task(project_id=project.id, prompt="a walk")
    assert tasks_lib.get_task(task.task_id).params["resolution"] == "902x508"
    # Not a name that they chose: operators give credits by names.
    assert users() == {newcomer: newcomer}
    assert str(project.user_id) == newcomer
    second = tasks_lib.create_project("work")
    assert [found.name for found in tasks_lib.list_projects()] == ["holidays", "work"]
    assert users() == {newcomer: newcomer}
    assert second.aspect_ratio is None


def test_nobody_is_made_when_the_token_is_not_good_or_lacks_the_scope(newcomer: str, owner: Owner) -> None:
    before = users()
    for token in ("nonsense", shared(sub=newcomer, role="service_role"), shared(sub=newcomer, exp=1)):
        with pytest.raises(TaskError, match="Authentication"):
            tasks_lib.create_project("holidays", token=token)
    with pytest.raises(NotFoundError, match="there is no user"):
        tasks_lib.create_project("theirs", user_id=owner.user_id, token=shared(sub=newcomer))
    read = tasks_lib.auth.issue_token(owner.user_id, scopes=["tasks:read"]).secret
    with pytest.raises(AuthorizationError):
        tasks_lib.create_project("mine", token=read)
    assert users() == before


def test_one_project_is_made_when_the_same_name_comes_many_times_at_once(newcomer: str) -> None:
    def create(_: int) -> str:
        try:
            return str(tasks_lib.create_project("holidays").id)
        except ConflictError as error:
            return str(error)

    assert tasks_lib.list_projects() == []  # one pool of connections for all threads
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(create, range(8)))
    assert answers.count("there is a project named `holidays` already") == 7
    assert len(tasks_lib.list_projects()) == 1


def test_size_of_what_is_made_later_follows_when_the_aspect_ratio_is_set(owner: Owner) -> None:
    def size() -> str:
        made = tasks_lib.create_image_generation_task(project_id=owner.project_id, prompt="a")
        return str(tasks_lib.get_task(made.task_id).params["resolution"])

    before = size()
    changed = tasks_lib.set_project(owner.project_id, aspect_ratio="9:16")
    assert (changed.aspect_ratio, changed.name) == ("9:16", "a project")
    assert (before, size()) == ("902x508", "508x902")
    with pytest.raises(TaskValidationError, match="there are 21:9, 16:9") as refused:
        tasks_lib.set_project(owner.project_id, aspect_ratio="5:4")
    assert refused.value.field == "aspect_ratio"


def test_shots_are_in_their_order_when_they_are_made_and_moved(owner: Owner) -> None:
    first, second = (tasks_lib.create_shot(name, project_id=owner.project_id) for name in ("first", "second"))
    assert (first.position, second.position) == (1, 2)
    tasks_lib.set_shot(first.id, position=3)
    tasks_lib.set_shot(second.id, name="opening")
    assert [shot.name for shot in tasks_lib.list_shots(project_id=owner.project_id)] == ["opening", "first"]
    task = tasks_lib.create_image_generation_task(project_id=owner.project_id, prompt="a", shot_id=first.id)
    assert [found.id for found in tasks_lib.list_tasks(shot_id=first.id)] == [task.task_id]
    other = make_owner("another")
    theirs = tasks_lib.create_shot("theirs", project_id=other.project_id, token=other.token)
    missing = uuid4()
    texts = []
    for id_ in (theirs.id, missing):
        with pytest.raises(NotFoundError) as refused:
            tasks_lib.set_shot(id_, name="mine now")
        texts.append(str(refused.value).replace(str(id_), "ID"))
    assert texts == ["there is no shot ID"] * 2


def test_commands_make_and_change_projects_and_shots_when_a_newcomer_calls_them(newcomer: str) -> None:
    def unitask(*words: str) -> str:
        done = CliRunner().invoke(app, list(words))
        assert done.exception is None, done.exception
        return done.output

    hint = CliRunner().invoke(app, ["upload", "nothing.png"]).exception
    assert "`unitask project create NAME` makes one" in str(hint)
    made = json.loads(unitask("project", "create", "holidays", "--aspect-ratio", "16:9", "-o", "json"))
    assert made["aspect_ratio"] == "16:9"
    assert "9:16" in unitask("project", "set", "holidays", "--aspect-ratio", "9:16")
    unitask("project", "create", "work")
    assert [line.split()[2] for line in unitask("project", "list").splitlines()[1:]] == ["holidays", "work"]
    shot = json.loads(unitask("shot", "create", "opening", "--project", "holidays", "-o", "json"))
    assert "at place 4" in unitask("shot", "set", shot["id"], "--position", "4")
    assert "opening" in unitask("shot", "list", "--project", "holidays")
    created = unitask(
        "create", "single_image", "--set", "prompt=a", "--set", f"shot_id={shot['id']}", "--project", "holidays"
    )
    assert created.startswith("single_image ")
    assert len(json.loads(unitask("list", "--project", "holidays", "-o", "json"))) == 1
    assert json.loads(unitask("list", "--project", "work", "-o", "json")) == []
    for words in (["project", "set", "holidays"], ["shot", "set", shot["id"]]):
        assert isinstance(CliRunner().invoke(app, words).exception, TaskValidationError)


def test_project_of_another_is_not_found_by_its_name(owner: Owner) -> None:
    other = make_owner("another")
    accounts.ensure_project(other.user_id, "secret")
    done = CliRunner().invoke(app, ["list", "--project", "secret"]).exception
    assert str(done) == "there is nothing with the id 'secret', and no project of yours has that name"
