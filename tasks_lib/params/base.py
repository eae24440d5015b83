"""What all parameter models have in common, and the kinds of value that occur in many of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from tasks_lib.errors import TaskValidationError

SEED_MAX = 2_147_483_647
REFERENCE_LIMIT = 2_048
PROMPT_LIMIT = 10_000


class ParamGroup(BaseModel):
    """A frozen set of parameters. Numbers are not guessed from text, and unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def parse(cls, params: Mapping[str, Any] | BaseModel) -> Self:
        """Validate a request. Raises `TaskValidationError`: its field is the first wrong one, its text names all."""
        given = params.model_dump(exclude_unset=True) if isinstance(params, BaseModel) else params
        if not isinstance(given, Mapping):
            raise TaskValidationError(f"parameters must be an object, not {type(given).__name__}", "params")
        try:
            return cls.model_validate({key: given[key] for key in given})
        except ValidationError as error:
            problems = [(field_path(detail["loc"]), cls._explain(detail)) for detail in error.errors()]
        raise TaskValidationError("; ".join(f"`{field}`: {text}" for field, text in problems), problems[0][0])

    @classmethod
    def _explain(cls, detail: ErrorDetails) -> str:
        if detail["type"] != "extra_forbidden":
            return detail["msg"].removeprefix("Value error, ")
        unknown = str(detail["loc"][-1])
        names = list(cls.model_fields) if len(detail["loc"]) == 1 else []
        near = difflib.get_close_matches(unknown, names, n=1)
        return f"there is no such parameter; did you mean `{near[0]}`?" if near else "there is no such parameter"


def field_path(location: tuple[int | str, ...]) -> str:
    """How people write a place in a request: `loras[1].strength`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or "params"


def _check_media(value: str) -> str:
    if len(value) > REFERENCE_LIMIT:
        raise ValueError(f"must have at most {REFERENCE_LIMIT} characters")
    if not re.fullmatch(r"(https?://[^\s/?#@]+(/\S*)?|unitask://[\w./-]+)", value):
        raise ValueError("must be an http(s) URL or a reference that upload_media returned")
    return value


def _check_resolution(value: str) -> str:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value)
    if not match:
        raise ValueError("must be WIDTHxHEIGHT in pixels, for example 768x432")
    width, height = int(match[1]), int(match[2])
    if not (64 <= width <= 4096 and 64 <= height <= 4096 and width % 2 == 0 and height % 2 == 0):
        raise ValueError("width and height must be even and from 64 to 4096 pixels")
    return value


def _check_text(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain a null character")
    return value


Text = Annotated[str, Field(max_length=PROMPT_LIMIT), AfterValidator(_check_text)]
MediaReference = Annotated[str, AfterValidator(_check_media)]
Resolution = Annotated[str, AfterValidator(_check_resolution)]
Seed = Annotated[int, Field(ge=0, le=SEED_MAX)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, le=2)]


def size_of(resolution: str) -> tuple[int, int]:
    """Width and height in pixels of a `Resolution`."""
    width, height = resolution.split("x")
    return int(width), int(height)
