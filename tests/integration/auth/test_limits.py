"""Rate limits: counted for each user and kind, refused with the time to come back, and failing closed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import cancel_task, create_task, create_tasks, database, upload_media
from tasks_lib.errors import DatabaseError, NotFoundError, RateLimitError, TaskError, TaskValidationError
from tasks_lib.settings import get_settings
from tests.conftest import Owner, make_owner

PARAMS = {"image_urls": ["https://example.com/0.jpg"], "base_prompts": ["a walk"], "segment_frames": 9}
TYPE = "travel_orchestrator"


@pytest.fixture
def bounded(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> Owner:
    """A user under small limits, and a service key."""
    for name, value in {"CREATE_CALLS": 5, "CREATE_ROWS": 12, "UPLOAD_CALLS": 1, "CHANGE_CALLS": 1}.items():
        monkeypatch.setenv(f"UNITASK_{name}_PER_MINUTE", str(value))
    monkeypatch.setenv("UNITASK_SERVICE_KEY", "the service key")
    get_settings.cache_clear()
    return owner


def create(owner: Owner, token: str | None = None) -> None:
    create_task(TYPE, PARAMS, project_id=owner.project_id, token=token or owner.token)


def stored() -> int:
    with database.transaction() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(tables.tasks)).scalar_one()


def test_call_is_refused_with_the_time_to_come_back_when_there_were_too_many(bounded: Owner) -> None:
    for _ in range(5):
        create(bounded)
    with pytest.raises(RateLimitError, match=r"come back in \d+ seconds") as caught:
        create(bounded)
    assert 50 < caught.value.retry_after <= 60
    assert stored() == 5

    create(make_owner("another"))
    create(bounded, "the service key")
    assert stored() == 7


def test_calls_are_allowed_again_when_the_minute_is_over(bounded: Owner) -> None:
    for _ in range(5):
        create(bounded)
    with database.transaction() as connection:
        earlier = tables.rate_limits.c.window_start - sa.text("interval '1 minute'")
        connection.execute(sa.update(tables.rate_limits).values(window_start=earlier))
    create(bounded)
    assert stored() == 6


def test_exactly_the_limit_passes_when_all_call_at_once(bounded: Owner) -> None:
    def attempt(_: int) -> bool:
        try:
            create(bounded)
        except RateLimitError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(16))) == 5
    assert stored() == 5


def test_rows_are_counted_when_they_come_in_batches(bounded: Owner) -> None:
    request = {"task_type": TYPE, "params": PARAMS, "project_id": bounded.project_id}
    create_tasks([request] * 8, token=bounded.token)
    with pytest.raises(RateLimitError):
        create_tasks([request] * 5, token=bounded.token)
    with pytest.raises(TaskValidationError, match="fewer"):
        create_tasks([request] * 13, token=bounded.token)
    create_tasks([request] * 4, token=bounded.token)
    assert stored() == 12


def test_call_counts_when_it_is_refused_for_another_reason(bounded: Owner) -> None:
    other = make_owner("another")
    for _ in range(5):
        with pytest.raises(NotFoundError):
            create_task(TYPE, PARAMS, project_id=other.project_id, token=bounded.token)
    with pytest.raises(RateLimitError):
        create(bounded)


def test_uploads_and_changes_have_limits_of_their_own(bounded: Owner, tmp_path: Path) -> None:
    for _ in range(5):
        create(bounded)
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    upload_media(picture, project_id=bounded.project_id)
    with pytest.raises(RateLimitError):
        upload_media(picture, project_id=bounded.project_id)
    for expected in (NotFoundError, RateLimitError):
        with pytest.raises(expected):
            cancel_task(bounded.project_id)


def test_nobody_passes_when_calls_cannot_be_counted(bounded: Owner) -> None:
    with database.transaction() as connection:
        connection.execute(sa.text("DROP TABLE rate_limits"))
    with pytest.raises(DatabaseError) as caught:
        create(bounded)
    assert isinstance(caught.value, TaskError)
    assert stored() == 0


def test_upload_is_refused_with_what_is_used_when_it_would_be_too_much(
    owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_UPLOAD_BYTES_PER_USER", "250")
    get_settings.cache_clear()
    pictures = [tmp_path / f"{i}.png" for i in range(8)]
    for i, picture in enumerate(pictures):
        picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([i]) * 92)

    def attempt(picture: Path) -> TaskValidationError | None:
        try:
            upload_media(picture, project_id=owner.project_id)
        except TaskValidationError as error:
            return error
        return None

    with ThreadPoolExecutor(8) as pool:
        refused = [error for error in pool.map(attempt, pictures) if error]
    assert len(refused) == 6
    assert refused[0].field == "path"
    assert all(text in str(refused[0]) for text in ("100 bytes", "200", "250"))
    other = make_owner("another")
    upload_media(pictures[0], project_id=other.project_id, token=other.token)
    with database.transaction() as connection:
        connection.execute(sa.delete(tables.projects).where(tables.projects.c.id == owner.project_id))
        project = sa.insert(tables.projects).values(user_id=owner.user_id, name="next").returning(tables.projects.c.id)
        again = connection.execute(project).scalar_one()
    upload_media(pictures[7], project_id=again)
