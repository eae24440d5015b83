"""The scene of the matrices."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

import tasks_lib
from db import tables
from tasks_lib import database
from tasks_lib.settings import get_settings
from tests.conftest import make_owner
from tests.integration.auth.scene import PARAMS, SERVICE_KEY, TYPE, Scene, travel
from tests.unit.auth.signing import SECRET


@pytest.fixture
def scene(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("UNITASK_SERVICE_KEY", SERVICE_KEY)
    monkeypatch.setenv("UNITASK_JWT_SECRET", SECRET)
    get_settings.cache_clear()
    owner = make_owner("the owner")
    cancelled = travel(owner)
    tasks_lib.cancel_task(cancelled, token=owner.token)
    tasks_lib.create_template("a template", TYPE, PARAMS, project_id=owner.project_id, token=owner.token)
    with database.transaction() as connection:
        shot = sa.insert(tables.shots).values(project_id=owner.project_id, name="a shot").returning(tables.shots.c.id)
        shot_id = connection.execute(shot).scalar_one()
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    return Scene(owner, shot_id, travel(owner), cancelled, picture)
