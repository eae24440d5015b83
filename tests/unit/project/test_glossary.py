"""The glossary's words are in their order, and what it names in the code is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
ENTRIES = re.findall(r"^\| ([a-z ]+) \| (.+) \|$", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)[1:]


def test_words_are_in_order_when_somebody_looks_one_up() -> None:
    words = [word for word, _ in ENTRIES]
    assert len(words) >= 20
    assert words == sorted(set(words))


def test_name_is_in_the_code_when_the_glossary_gives_it() -> None:
    folders = ("db", "flows", "tasks_lib")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".sql"}]
    identifiers = set(re.findall(r"\w+", "\n".join(path.read_text() for path in paths)))
    named = {name for _, meaning in ENTRIES for name in re.findall(r"`(\w+)`", meaning)}
    assert named
    assert named <= identifiers, f"not in the code: {sorted(named - identifiers)}"
