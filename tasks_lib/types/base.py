"""What a task type is: its parameters, where it runs, what it costs, what executes it. One module declares one type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from tasks_lib.billing.cost import CostFactors
from tasks_lib.models import Model
from tasks_lib.params.base import ParamGroup
from tasks_lib.planning.children import Child

RunType = Literal["gpu", "api"]
Category = Literal["generation", "processing", "orchestration", "utility"]


class TaskParams(ParamGroup):
    """Parameters of a task type: shared groups composed by inheritance, and the type's own fields."""

    REFUSED = {
        **dict.fromkeys(
            ("project_id", "token", "idempotency_key", "depends_on", "priority"),
            "belongs beside the parameters and not among them",
        ),
        **dict.fromkeys(
            ("numImages", "num_generations", "imagesPerPrompt"),
            "is taken by the creation helper, which makes so many tasks",
        ),
    }


P = TypeVar("P", bound=TaskParams)


@dataclass(frozen=True)
class Preparation:
    """What a type may use to prepare its row; everything in it was checked to belong to the caller."""

    project_id: UUID
    resolution: Callable[[str | None], str]
    """The size that a request without one gets, from the project's aspect ratio."""


@dataclass(frozen=True)
class Prepared:
    """What is stored of a valid request. `placement` says where the result goes; see place_output.sql."""

    params: dict[str, Any]
    placement: dict[str, Any] | None = None
    model: str | None = None


@dataclass(frozen=True)
class TaskType(Generic[P]):
    """One task type. Times are in seconds, prices in credits."""

    name: str
    params: type[P]
    run_type: RunType
    category: Category
    display_name: str
    description: str
    prepare: Callable[[P, Preparation], Prepared]
    execute: Callable[[Any], Any] | None = None
    """Makes the output of a leaf; it imports its engine when it runs, so that creating never pays for it."""
    engine_kind: str | None = None
    """The kind of request that `execute` gives to an engine, which may need a model."""
    require: Callable[[dict[str, Any], Model | None], None] = lambda *_: None
    """From stored params: raises `EngineError` for what the model that is to serve them cannot do; None is the engine
    without weights. Said at creation where the model is known, and by the worker."""
    plan: Callable[[dict[str, Any], dict[str, Any] | None], list[Child]] | None = None
    """The children of an orchestrator, from its stored params and placement: pure."""
    public: bool = True
    """Whether people may create it; children of orchestrators are not."""
    base_cost_per_second: Decimal = Decimal("0.0278")
    billing_type: Literal["per_second", "per_unit"] = "per_second"
    unit_cost: Decimal | None = None
    units: Callable[[dict[str, Any]], int] = lambda _: 1
    """From stored params: how many units of work a task is, each at the full price: what it repeats inside itself."""
    unit: str = "task"
    """What one unit is, for people."""
    estimate_seconds: Callable[[dict[str, Any]], float] = lambda _: 60.0
    """From stored params: how long each unit may run, for the hold of a time-priced task."""
    cost_factors: CostFactors = field(default_factory=CostFactors)
    tool_type: str | None = None
    content_type: Literal["image", "video"] | None = None
    max_attempts: int = 3
    deadline_seconds: int = 3600
    is_active: bool = True


def stored(params: TaskParams, **settled: Any) -> dict[str, Any]:
    """What a row keeps of a request: all that has a value, with what was settled at creation."""
    return params.model_dump(mode="json", exclude_none=True, exclude={"random_seed"}) | settled


def as_given(params: TaskParams, _: Preparation) -> Prepared:
    """Store the parameters as they are, and put no result anywhere: for children, whose plan says where."""
    return Prepared(params.model_dump(mode="json"))
