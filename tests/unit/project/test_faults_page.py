"""The page of faults names each of them once, and only tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/history/faults-of-the-predecessor-and-peers.md"
FAULTS = {"A": 18, "B": 8, "C": 12, "D": 12, "E": 12, "": 56, "P": 25}


def rows() -> dict[str, str]:
    """What stands against a fault, by the fault's name."""
    found = re.findall(r"^\| ([A-EP]?\d+) [^|]+ \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(found) == len(dict(found)), "a fault is named twice"
    return dict(found)


def test_every_fault_has_an_answer_when_the_page_is_read() -> None:
    assert set(rows()) == {f"{letter}{i}" for letter, count in FAULTS.items() for i in range(1, count + 1)}


def test_every_named_test_exists_when_the_page_is_read() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    exist = set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))
    named = {name for answer in rows().values() for name in re.findall(r"`(test_\w+)`", answer)}
    assert named <= exist, f"these do not exist: {sorted(named - exist)}"
