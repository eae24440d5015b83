"""What surrounds the code says the same as the code: licence, version, changelog, checks before a commit."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import yaml  # type: ignore[import-untyped]

import tasks_lib

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""The digest of https://www.apache.org/licenses/LICENSE-2.0.txt."""


def test_licence_is_apache_when_the_package_says_so() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    (name,) = PROJECT["license-files"]
    assert hashlib.sha256((ROOT / name).read_bytes()).hexdigest() == APACHE_2


def test_version_is_the_same_everywhere_when_a_file_names_it() -> None:
    version = PROJECT["version"]
    assert tasks_lib.__version__ == version
    folders = [ROOT / "deployments", ROOT / "docs"]
    texts = [
        path.read_text()
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix in {"", ".md", ".yaml"} and path.is_file()
    ]
    named = re.findall(r"(?:unitask-(?:api|gpu):|newTag: )(\d[\w.]*)", "\n".join(texts))
    assert len(named) >= 6
    assert set(named) == {version}


def test_version_has_a_section_when_it_was_released() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## \[([^\]]+)\](?: - \d{4}-\d\d-\d\d)?$", changelog, re.MULTILINE)
    assert len(sections) == changelog.count("\n## ")
    assert sections[0] == "Unreleased"
    assert PROJECT["version"] in sections[1:] or f"Becomes {PROJECT['version']}" in changelog


def test_hooks_run_what_lint_runs_when_somebody_commits() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    entries = [hook["entry"] for hook in repository["hooks"]]
    target = re.search(r"^lint:.*\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert target
    assert entries == [line.strip().replace("$(BIN)", ".venv/bin") for line in target[1].splitlines()]
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    assert not any(hook["pass_filenames"] for hook in repository["hooks"])
