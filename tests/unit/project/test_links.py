"""Pages that a source or another page names are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
FOLDERS = ("db", "deployments", "docs", "examples", "flows", "tasks_lib")


def test_every_page_exists_when_a_source_names_it() -> None:
    sources = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.*") if path.suffix in {".py", ".sql"}]
    named = {name for path in sources for name in re.findall(r"docs/[\w./-]+\.md", path.read_text())}
    assert named
    assert {name for name in named if not (ROOT / name).is_file()} == set()


def test_every_target_exists_when_a_page_links_to_it() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    targets = {
        page.parent / target
        for page in pages
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text())
    }
    assert targets
    assert {str(target) for target in targets if not target.exists()} == set()
