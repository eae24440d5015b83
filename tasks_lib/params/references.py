"""Which stored things a request refers to, read off the types of its fields."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, get_args, get_origin
from uuid import UUID

from tasks_lib.params.base import ParamGroup, RefersTo


def references(params: ParamGroup) -> list[dict[str, str]]:
    """`{field, kind, id}` for every id in the request, in the order of its fields."""
    return [
        {"field": path, "kind": kind, "id": str(id_)}
        for name, kind in _referring(type(params)).items()
        for path, id_ in _ids(name, getattr(params, name))
    ]


@cache
def _referring(cls: type[ParamGroup]) -> dict[str, str]:
    fields = cls.model_fields.items()
    found = {name: [*info.metadata, *_metadata(info.annotation)] for name, info in fields}
    return {name: mark.kind for name, marks in found.items() for mark in marks if isinstance(mark, RefersTo)}


def _metadata(annotation: Any) -> Iterator[Any]:
    """What `Annotated` says anywhere inside a type, so also in `GenerationId | None` and `list[GenerationId]`."""
    inner, *extra = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    yield from extra
    for argument in get_args(inner):
        yield from _metadata(argument)


def _ids(path: str, value: Any) -> Iterator[tuple[str, UUID]]:
    if isinstance(value, UUID):
        yield path, value
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _ids(f"{path}[{i}]", item)
