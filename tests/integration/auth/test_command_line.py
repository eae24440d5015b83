"""The command line as a door: one line that says Authentication, never a stack trace, and never a token in it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tasks_lib.cli import app, main
from tasks_lib.cli.command import told
from tasks_lib.errors import TaskError, TaskValidationError
from tasks_lib.settings import get_settings
from tests.conftest import Owner
from tests.integration.auth.scene import NOBODY, Scene, everything
from tests.unit.auth.signing import login_service, public, shared


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], token: str) -> tuple[object, str]:
    """The status of `unitask list` with a token, and all that it has written, on one line."""
    monkeypatch.setattr("tasks_lib.cli.command.mask_logs", lambda: None)  # which is for a whole process
    monkeypatch.setattr(sys, "argv", ["unitask", "list"])
    monkeypatch.setenv("UNITASK_TOKEN", token)
    get_settings.cache_clear()
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    return ended.value.code, " ".join((shown.out + shown.err).split())


def test_reason_is_one_line_when_the_token_is_not_good(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for credential, make in NOBODY.items():
        if credential == "malformed":
            continue  # no variable can hold it
        token = make(scene)
        status, text = run(monkeypatch, capsys, token)
        assert (status, text.startswith("Authentication failed: ")) == (1, True), credential
        assert not token or token not in text


@pytest.mark.parametrize("lost", ["the service is away", "it answers an error", "it has no keys", "it has other keys"])
def test_reason_is_one_line_when_the_signing_key_is_lost(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lost: str
) -> None:
    token = public(sub=str(scene.owner.user_id))
    with login_service() as service:
        service.keys = {"it answers an error": None, "it has no keys": []}.get(lost, (service.keys or [])[1:])
        url = "http://127.0.0.1:9/jwks.json" if lost == "the service is away" else service.url
        monkeypatch.setenv("UNITASK_JWT_JWKS_URL", url)
        status, text = run(monkeypatch, capsys, token)
    assert (status, text.startswith("Authentication failed: ")) == (1, True)


def test_every_refused_row_has_its_line_when_a_batch_is_refused(owner: Owner, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a"}\n' + '{"promt": "a"}\n' * 23)
    done = CliRunner().invoke(app, ["batch", str(rows), "--type", "z_image_turbo"])
    assert isinstance(done.exception, TaskError)
    lines = told(done.exception).splitlines()
    assert lines[0] == "row 1: `prompt`: Field required; `promt`: there is no such parameter; did you mean `prompt`?"
    assert lines[-2:] == ["and 3 more", "nothing was stored"]
    assert len(lines) == 22


@pytest.mark.parametrize("words", [["somebody new", "--scope", "all"], [""], [" "]])
def test_nobody_is_made_when_a_token_is_refused(owner: Owner, words: list[str]) -> None:
    before = everything()
    done = CliRunner().invoke(app, ["token", "create", *words])
    assert isinstance(done.exception, TaskValidationError)
    assert everything() == before


def test_reason_is_one_line_when_the_shared_secret_is_lost(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    token = shared(sub=str(scene.owner.user_id))
    monkeypatch.delenv("UNITASK_JWT_SECRET")
    assert run(monkeypatch, capsys, token) == (1, "Authentication failed: the token is not a valid JWT")
