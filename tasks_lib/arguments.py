"""What callers pass to a public function is checked before anything is done with it, by the function's own types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    SecretStr,
    ValidationError,
    validate_call,
)

from tasks_lib.errors import TaskValidationError

P = ParamSpec("P")
T = TypeVar("T")

POOLS = ("gpu", "api")
STATUSES = ("Pending", "Processing", "Complete", "Failed", "Cancelled")


def _check_id(value: Any) -> Any:
    if not isinstance(value, UUID | str):
        raise ValueError(f"must be a UUID or its text, not {type(value).__name__}")
    return value


def _check_status(value: str) -> str:
    """The status that was meant, in whatever case."""
    if value.capitalize() not in STATUSES:
        raise ValueError(f"there is no status {value!r:.50}; there are {', '.join(STATUSES)}")
    return value.capitalize()


def _check_pool(value: str) -> str:
    if value not in POOLS:
        raise ValueError(f"there is no pool {value!r:.50}; there are {', '.join(POOLS)}")
    return value


Token = str | SecretStr | None
Id = Annotated[UUID | str, BeforeValidator(_check_id)]
"""What is no UUID at all names nothing: `to_id` answers it as it does a missing thing."""
Params = Mapping[str, Any] | InstanceOf[BaseModel]
Pool = Annotated[str, AfterValidator(_check_pool)]
Status = Annotated[str, AfterValidator(_check_status)]
Limit = Annotated[int, Field(ge=1, le=20_000)]
"""How many things a page has at most."""
EventId = Annotated[int, Field(ge=0, lt=1 << 63)]
Seconds = Annotated[float, Field(ge=0)]


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """Let wrong arguments end in a `TaskValidationError` that names the argument, and in nothing else."""
    validated = validate_call(
        config=ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True, hide_input_in_errors=True)
    )(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return validated(*args, **kwargs)
        except ValidationError as error:
            if error.title != function.__name__:
                raise
            name = str(error.errors()[0]["loc"][0])
            found = [detail for detail in error.errors() if str(detail["loc"][0]) == name]
            # What a check of ours says counts more than which other type would have been taken, too.
            ours = [detail for detail in found if detail["type"] == "value_error"]
            reasons = dict.fromkeys(detail["msg"].removeprefix("Value error, ") for detail in ours or found)
            raise TaskValidationError(f"`{name}`: {', or '.join(reasons)}", name) from None

    return call
