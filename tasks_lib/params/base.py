"""What all parameter models have in common, and the kinds of value that occur in many of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, get_args
from uuid import UUID

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from tasks_lib.errors import TaskValidationError

OF_FORMS = "it is kept with the request for forms, and nothing is made from it"
"""Why a field that only forms read changes no result."""

OF_GALLERIES = "it is kept with the request for galleries, and nothing is made from it"

SEED_MAX = 2_147_483_647
REFERENCE_LIMIT = 2_048
PROMPT_LIMIT = 10_000


def _in_order(schema: dict[str, Any]) -> None:
    """Forms show the fields in their order, the required ones first; without positions they are shuffled."""
    required = schema.get("required", [])
    properties = schema.get("properties", {})
    for position, name in enumerate(sorted(properties, key=lambda name: name not in required)):
        properties[name]["position"] = position


class ParamGroup(BaseModel):
    """A frozen set of parameters. Numbers are not guessed from text, and unknown keys are refused."""

    REFUSED: ClassVar[Mapping[str, str]] = {}
    """Names that older clients send and that are refused on purpose, with what to do instead; those of bases count."""

    NOT_FOLLOWED: ClassVar[Mapping[str, str | Callable[[Any], str | None]]] = {}
    """Fields that nobody follows, with the reason (a function of the params: None where it is followed), which results
    say to whoever set them; those of bases count."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        json_schema_extra=_in_order,
    )

    @classmethod
    def parse(cls, params: Mapping[str, Any] | BaseModel) -> Self:
        """Validate a request. Raises `TaskValidationError`: its field is the first wrong one, its text names all."""
        try:
            return cls.model_validate(_as_dict(params))
        except ValidationError as error:
            raise refusal(cls, error.errors()) from None

    @classmethod
    def check_some(cls, params: Mapping[str, Any]) -> None:
        """Validate a part of a request: what is missing may come later. Raises `TaskValidationError`."""
        try:
            cls.model_validate(_as_dict(params))
        except ValidationError as error:
            if wrong := [detail for detail in error.errors() if detail["type"] != "missing" or len(detail["loc"]) > 1]:
                raise refusal(cls, wrong) from None

    @classmethod
    def check_kinds(cls, stored: Mapping[str, Any]) -> None:
        """Refuse a row that holds a value of another kind, as plain SQL may write it. Raises `TaskValidationError`.

        All else is let through: the row may be of an older version, whose limits were others.
        """
        try:
            cls.model_validate(dict(stored))
        except ValidationError as error:
            if wrong := [detail for detail in error.errors() if detail["type"].endswith("_type")]:
                raise refusal(cls, wrong) from None


def refusal(model: type[BaseModel], details: Sequence[ErrorDetails]) -> TaskValidationError:
    """What is wrong with a request in one error: its field is the first wrong one, its text names all."""
    problems: dict[str, list[str]] = {}
    for detail in details:
        path, groups = _place(model, detail)
        problems.setdefault(path, []).append(_explain(groups, detail))
    text = "; ".join(f"`{path}`: {', or '.join(dict.fromkeys(reasons))}" for path, reasons in problems.items())
    return TaskValidationError(text, next(iter(problems)))


def _place(model: type[BaseModel], detail: ErrorDetails) -> tuple[str, set[type[BaseModel]]]:
    """Where a detail is, without the names that pydantic gives to the forms of a union, and what knows the last key."""
    inside, owners, path = {model}, {model}, list[int | str]()
    *_, last = detail["loc"] or ("",)
    for part in detail["loc"]:
        if isinstance(part, str):
            known = [info.annotation for group in inside for name, info in _names(group) if part == name]
            if not known and not (detail["type"] == "extra_forbidden" and part is last):
                continue
            owners, inside = inside, {found for annotation in known for found in _groups(annotation)}
        path.append(part)
    return field_path(tuple(path)), owners


def _names(group: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Every name that a field may be sent by."""
    for name, info in group.model_fields.items():
        yield name, info
        yield from ((alias, info) for alias in aliases_of(info) if alias != name)


def aliases_of(info: FieldInfo) -> list[str]:
    """The names that a field may be sent by, besides or with its own."""
    choices = info.validation_alias.choices if isinstance(info.validation_alias, AliasChoices) else ()
    return [alias for alias in choices if isinstance(alias, str)]


def _groups(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that occur anywhere in a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _groups(argument)


def _explain(groups: set[type[BaseModel]], detail: ErrorDetails) -> str:
    if detail["type"] != "extra_forbidden":
        return detail["msg"].removeprefix("Value error, ")
    unknown = str(detail["loc"][-1])
    for declared in (vars(base).get("REFUSED", {}) for group in groups for base in group.__mro__):
        if unknown in declared:
            return str(declared[unknown])
    names = sorted({name for group in groups for name in group.model_fields})
    near = nearest(unknown, names)
    return f"there is no such parameter; did you mean `{near}`?" if near else "there is no such parameter"


def nearest(given: str, names: Sequence[str]) -> str | None:
    """The name that was probably meant: one that begins so, or else the most alike."""
    begun = [name for name in names if len(given) > 2 and name.startswith(given)]
    return next(iter(sorted(begun, key=len) or difflib.get_close_matches(given, names, n=1)), None)


def _as_dict(params: Mapping[str, Any] | BaseModel) -> dict[str, Any]:
    given = params.model_dump(exclude_unset=True) if isinstance(params, BaseModel) else params
    if not isinstance(given, Mapping):
        raise TaskValidationError(f"parameters must be an object, not {type(given).__name__}", "params")
    return {key: given[key] for key in given}


def field_path(location: tuple[int | str, ...]) -> str:
    """How people write a place in a request: `loras[1].strength`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or "params"


def _check_media(value: str) -> str:
    if len(value) > REFERENCE_LIMIT:
        raise ValueError(f"must have at most {REFERENCE_LIMIT} characters")
    if not re.fullmatch(r"(https?://[^\s/?#@\0]+(/[^\s\0]*)?|unitask://[\w./-]+)", value):
        raise ValueError("must be an http(s) URL or a reference that upload_media returned")
    return value


def _check_resolution(value: str) -> str:
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", value)
    if not match:
        raise ValueError("must be WIDTHxHEIGHT in pixels, for example 768x432")
    width, height = int(match[1]), int(match[2])
    if not (64 <= width <= 4096 and 64 <= height <= 4096 and width % 2 == 0 and height % 2 == 0):
        raise ValueError("width and height must be even and from 64 to 4096 pixels")
    return value


def _from_pair(value: Any) -> Any:
    """Older clients send some sizes as `[width, height]`."""
    if isinstance(value, list) and len(value) == 2 and all(type(side) is int for side in value):
        return f"{value[0]}x{value[1]}"
    return value


def _check_words(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _check_text(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain a null character")
    return value


Text = Annotated[str, Field(max_length=PROMPT_LIMIT), AfterValidator(_check_text)]
Words = Annotated[Text, AfterValidator(_check_words)]
"""Text that says something."""
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_check_text)]
Label = Annotated[Name, AfterValidator(_check_words)]
"""A name that people can see."""
Locator = Annotated[str, Field(min_length=1, max_length=REFERENCE_LIMIT), AfterValidator(_check_text)]
"""Where an engine finds weights: a name, a path on the worker, a hub id or a URL."""
MediaReference = Annotated[str, AfterValidator(_check_media)]
Resolution = Annotated[str, BeforeValidator(_from_pair, json_schema_input_type=str), AfterValidator(_check_resolution)]
Seed = Annotated[int, Field(ge=0, le=SEED_MAX)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, le=2)]
Steps = Annotated[int, Field(ge=1, le=200)]
Guidance = Annotated[float, Field(ge=0, le=30)]


@dataclass(frozen=True)
class RefersTo:
    """Marks a field as the id of a stored thing, which must be there and in the request's own project."""

    kind: Literal["shot", "generation", "variant", "shot_generation"]


Id = Annotated[UUID, Field(strict=False)]
ShotId = Annotated[UUID, Field(strict=False), RefersTo("shot")]
GenerationId = Annotated[UUID, Field(strict=False), RefersTo("generation")]
VariantId = Annotated[UUID, Field(strict=False), RefersTo("variant")]
ShotGenerationId = Annotated[UUID, Field(strict=False), RefersTo("shot_generation")]


def size_of(resolution: str) -> tuple[int, int]:
    """Width and height in pixels of a `Resolution`."""
    width, height = resolution.split("x")
    return int(width), int(height)
