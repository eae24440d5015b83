"""Where bytes go: keys that are ours alone, uploads that are the same when their bytes are, and any fsspec URL."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import pytest
from PIL import Image

from tasks_lib import storage, upload_media
from tasks_lib.errors import NotFoundError, TaskValidationError
from tasks_lib.settings import get_settings
from tests.conftest import Owner

# Constants, since they are part of the tests' names.
PROJECT = UUID(int=1)
ANOTHER = UUID(int=2)


@pytest.mark.parametrize(
    "reference",
    [
        f"unitask://{ANOTHER}/uploads/a.png",
        f"unitask://{PROJECT}/../{ANOTHER}/a.png",
        f"unitask://{PROJECT}//uploads/a.png",
        f"unitask:///{PROJECT}/uploads/a.png",
        "unitask://",
        "unitask:///etc/passwd",
    ],
)
def test_reference_is_missing_when_it_leaves_its_project(reference: str) -> None:
    with pytest.raises(NotFoundError, match="there is no upload"):
        storage.key_of(reference, PROJECT)


def test_output_stays_in_its_lease_when_its_name_has_folders() -> None:
    task = uuid4()
    assert storage.output_key(PROJECT, task, 3, "../../x/film.mp4") == f"{PROJECT}/{task}/3/film.mp4"


def test_upload_has_the_same_reference_when_its_bytes_are_the_same(owner: Owner, tmp_path: Path) -> None:
    for name in ("one.png", "two.PNG"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name, format="PNG")
    first, second = (upload_media(tmp_path / name, project_id=owner.project_id) for name in ("one.png", "two.PNG"))
    assert first == second
    storage.fetch(storage.key_of(first, owner.project_id), tmp_path / "back.png")
    assert (tmp_path / "back.png").read_bytes() == (tmp_path / "one.png").read_bytes()


@pytest.mark.parametrize(("form", "name", "suffix"), [("PNG", "a.jpg", ".png"), ("JPEG", "a.JPEG", ".jpeg")])
def test_upload_has_the_suffix_of_its_content_when_its_name_says_another(
    owner: Owner, tmp_path: Path, form: str, name: str, suffix: str
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / name, format=form)
    assert upload_media(tmp_path / name, project_id=owner.project_id).endswith(suffix)


def test_upload_is_refused_when_it_is_no_media_file(owner: Owner, tmp_path: Path) -> None:
    (tmp_path / "script.sh").write_text("#!/bin/sh")
    with pytest.raises(TaskValidationError, match="not a picture, clip or sound"):
        upload_media(tmp_path / "script.sh", project_id=owner.project_id)
    (tmp_path / "script.png").write_text("#!/bin/sh")
    with pytest.raises(TaskValidationError, match=r"`script\.png` is not a picture, clip or sound by its content"):
        upload_media(tmp_path / "script.png", project_id=owner.project_id)
    with pytest.raises(TaskValidationError, match="there is no file"):
        upload_media(tmp_path / "missing.png", project_id=owner.project_id)
    with pytest.raises(NotFoundError, match="there is no project"):
        upload_media(tmp_path / "script.sh", project_id=uuid4())


def test_any_storage_url_serves_when_fsspec_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNITASK_STORAGE_URL", f"memory://{uuid4()}")
    get_settings.cache_clear()
    (tmp_path / "a.bin").write_bytes(b"some bytes")
    key = storage.output_key(PROJECT, uuid4(), 1, "a.bin")
    assert not storage.exists(key)
    storage.put(tmp_path / "a.bin", key)
    storage.fetch(key, tmp_path / "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == b"some bytes"
    with pytest.raises(NotFoundError, match="there is nothing in storage"):
        storage.fetch(f"{key}.missing", tmp_path / "c.bin")
    get_settings.cache_clear()
