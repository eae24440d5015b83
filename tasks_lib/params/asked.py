"""What a caller asked for by name, and what is known at once not to be followed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

from pydantic import BaseModel

from tasks_lib.params.base import ParamGroup

SHOWN_PARTS = 5
"""A note names so many of the parts that it is about."""


class Asked(TypedDict):
    """What a row keeps of its request beside the parameters, which are whole with all defaults."""

    fields: dict[str, list[str]]
    """The row's own parameters that the caller set, each with the fields of the request that it comes from: for a child
    of an orchestrator those of the orchestrator's request."""
    notes: list[str]
    """What is not followed whoever makes it."""


def asked_of(params: ParamGroup, *notes: str | None) -> Asked:
    """State what a request asks for, with further notes on it."""
    fields = {name: [name] for name in type(params).model_fields if _says_something(params, name)}
    return {"fields": fields, "notes": merged_notes([*filter(None, notes), *_not_followed(params)])}


def asked_of_child(parent: Asked | None, sources: Mapping[str, Sequence[str]], params: Mapping[str, Any]) -> Asked:
    """State what of a child's parameters its orchestrator's request asked for; without a statement, all of them.

    `sources` are the fields of that request from which the plan took each parameter, where they have other names.
    """
    every = {name: list(sources.get(name, (name,))) for name in params}
    if parent is None:
        return {"fields": every, "notes": []}
    known = parent["fields"]
    kept = {name: [path for path in paths if re.split(r"[.\[]", path)[0] in known] for name, paths in every.items()}
    return {"fields": {name: paths for name, paths in kept.items() if paths}, "notes": []}


def asked_fields(asked: Asked | None, params: Mapping[str, Any]) -> dict[str, list[str]]:
    """The fields that a row's caller set; a row that came by SQL asks for all that it has."""
    return {name: [name] for name in params} if asked is None else asked["fields"]


def not_followed(paths: Sequence[str], why: str) -> list[str]:
    """The notes that say of fields of a request that they were not followed; places in lists are left out."""
    names = dict.fromkeys(re.sub(r"\[\d+\]", "", path) for path in paths)
    return [f"`{name}` was not followed: {why}" for name in names]


def merged_notes(notes: Sequence[str]) -> list[str]:
    """Each note once, and of those that begin with the name of a field the first."""
    kept: dict[str, str] = {}
    for note in notes:
        named = re.match(r"`[^`]+`(?= (was|is) )", note)
        kept.setdefault(named[0] if named else note, note)
    return list(kept.values())


def gathered_notes(of_parts: Mapping[str, Sequence[str]]) -> list[str]:
    """The notes of the parts of a film: once what all say, and else with the names of those that say it."""
    by_note: dict[str, list[str]] = {}
    for key, notes in of_parts.items():
        for note in notes:
            by_note.setdefault(note, []).append(key)
    return [
        note if len(keys) == len(of_parts) or re.match(r"`[^`]+` (was|is) ", note) else f"{_listed(keys)}: {note}"
        for note, keys in by_note.items()
    ]


def _listed(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:SHOWN_PARTS])
    return f"{shown} and {len(keys) - SHOWN_PARTS} more" if len(keys) > SHOWN_PARTS else shown


def source_of(reference: str, params: Mapping[str, Any], fields: Mapping[str, Sequence[str]]) -> str | None:
    """The field of the request that a text in a row's parameters was given in, `image_urls[2]`."""
    path = next((path for path, text in texts_in(params) if text == reference), None)
    if path is None:
        return None
    name, rest = re.match(r"([^.\[]*)(.*)", path, re.DOTALL).groups()  # type: ignore[union-attr]
    return str(next(iter(fields.get(name, ())), name)) + str(rest)


def texts_in(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a JSON value, with its place: `loras[1].path`."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts_in(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from texts_in(item, f"{path}[{i}]")


def _says_something(params: BaseModel, name: str) -> bool:
    value = getattr(params, name)
    # False says something where the default is true.
    turned_off = value is False and type(params).model_fields[name].default is True
    return name in params.model_fields_set and (has_content(value) or turned_off)


def has_content(value: Any) -> bool:
    """Say whether a value asks for anything: false, an empty text and a list of such do not; a number does."""
    if isinstance(value, BaseModel):
        return any(_says_something(value, name) for name in type(value).model_fields)
    if isinstance(value, list | tuple):
        return any(map(has_content, value))
    return value not in (None, False, "") or type(value) in (int, float)


def _not_followed(params: ParamGroup, path: str = "") -> Iterator[str]:
    """What the groups themselves say, of the fields that were set; nested ones too."""
    reasons = {name: why for base in type(params).__mro__ for name, why in vars(base).get("NOT_FOLLOWED", {}).items()}
    for name in type(params).model_fields:
        if not _says_something(params, name):
            continue
        why = reasons.get(name)
        if why := (why(params) if callable(why) else why):
            yield from not_followed([path + name], why)
        value = getattr(params, name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, ParamGroup):
                yield from _not_followed(item, f"{path}{name}.")
