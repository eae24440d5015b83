"""docs/settings.md says of every setting what the code says."""

from __future__ import annotations

import difflib

from tasks_lib.settings import Settings
from tests.support import settings_page


def test_page_is_current_when_a_setting_changed() -> None:
    kept, made = settings_page.PAGE.read_text(), settings_page.page()
    diff = difflib.unified_diff(kept.splitlines(), made.splitlines(), "the page", "the settings", lineterm="")
    assert kept == made, "\n".join(["`python -m tests.support.settings_page` writes the page anew:", *diff])


def test_every_setting_has_a_place_and_a_meaning_when_the_page_is_made() -> None:
    page, meanings = settings_page.page(), settings_page.meanings()
    for name in Settings.model_fields:
        assert page.count(f"| `UNITASK_{name.upper()}` |") == 1, name
        assert meanings[name].endswith("."), name
