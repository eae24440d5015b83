"""docs/settings.md from the fields of tasks_lib/settings.py; `python -m tests.support.settings_page` makes it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from tasks_lib import settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
HEADER = """\
# Settings

Environment variables, read once when a process starts: after a change, start again what should know it (`unitask down`,
`unitask up`). `unitask doctor` says which are wrong. A secret is never shown. This page is made from
`tasks_lib/settings.py` by `python -m tests.support.settings_page`.
"""
KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "object": "JSON object",
    "array": "JSON list of texts",
    "path": "path",
    "password": "secret",
}
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
}


def page() -> str:
    """Return the page as the fields are now."""
    fields = settings.Settings.model_json_schema()["properties"]
    tables = (_table(group, fields) for group in settings.Settings.__bases__)
    return "\n".join([HEADER, *(line for table in tables for line in table)])


def meanings() -> dict[str, str]:
    """Return the text below each field in the source by the field's name; empty where there is none."""
    found = {}
    groups = [node for node in ast.parse(inspect.getsource(settings)).body if isinstance(node, ast.ClassDef)]
    for group in groups:
        for field, text in pairwise([*group.body, ast.Pass()]):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                told = text.value.value if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) else ""
                found[field.target.id] = " ".join(str(told).split())
    return found


def _table(group: type[Any], fields: dict[str, Any]) -> Iterator[str]:
    yield f"## {inspect.getdoc(group)}\n\n| variable | type | default | meaning |\n|---|---|---|---|"
    for name in inspect.get_annotations(group):
        kind, default = _kind(fields[name]), _default(fields[name]["default"])
        yield f"| `UNITASK_{name.upper()}` | {kind} | {default} | {meanings()[name]} |"
    yield ""


def _kind(field: dict[str, Any]) -> str:
    field = next((kind for kind in field.get("anyOf", []) if kind["type"] != "null"), field)
    kind = "http(s) URL" if "http" in field.get("pattern", "") else KINDS[field.get("format", field["type"])]
    return ", ".join([kind, *(words.format(field[bound]) for bound, words in BOUNDS.items() if bound in field)])


def _default(value: Any) -> str:
    match value:
        case None:
            return "not set"
        case bool():
            return f"`{value}`".lower()
        case int() | float():
            return f"{value:,}"
        case str() if value:
            return f"`{value.replace(str(Path.home()), '~')}`"
    return "empty"


if __name__ == "__main__":
    PAGE.write_text(page())
