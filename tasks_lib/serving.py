"""Who makes the output of a task: a provider, an engine without weights, or a model of the table."""

from __future__ import annotations

from typing import Any

from tasks_lib.errors import EngineError
from tasks_lib.models import PIPELINES, WEIGHTLESS, Model
from tasks_lib.settings import Settings
from tasks_lib.types.base import RunType, TaskType

ENGINE = "engine"
"""In `UNITASK_PROVIDERS`, what stands for the engines of our own workers."""


def pool(declared: TaskType[Any], settings: Settings) -> RunType:
    """Where tasks of a type run: the pool that it declares, or `gpu` where the settings give it to our own engines."""
    chosen = settings.providers.get(declared.name, "").partition(":")[0]
    return "gpu" if chosen == ENGINE and declared.execute is not None else declared.run_type


def pool_problem(declared: TaskType[Any], run_type: str, settings: Settings) -> str | None:
    """Return why the workers of a pool could not do a type's tasks, as the rest of a sentence; None if they can."""
    to_engine = settings.providers.get(declared.name, "").partition(":")[0] == ENGINE
    if declared.plan is not None and to_engine:
        return "and UNITASK_PROVIDERS gives it to an engine, and no engine makes it"
    if declared.plan is not None:
        return None if run_type == "api" else "whose workers host no orchestrators; set `run_type` to api"
    if run_type == "gpu":
        return None if declared.execute is not None else "and no engine makes it; set `run_type` to api"
    if declared.run_type != "api":
        return "and no provider makes it; set `run_type` to gpu"
    if to_engine:
        return "and UNITASK_PROVIDERS gives it to an engine" + (
            "; set `run_type` to gpu" if declared.execute else ", and no engine makes it"
        )
    return None


def default_model(task_type: str, settings: Settings) -> str | None:
    """The model that a type gets without a `model_name`; None is the engine without weights."""
    chosen, _, alias = settings.providers.get(task_type, "").partition(":")
    return alias or None if chosen == ENGINE else None


def model_for(kind: str, alias: str | None, settings: Settings) -> Model | None:
    """The model that serves a kind of request; None is the engine without weights.

    Raises `EngineError` that names the setting where nothing that is configured can serve it.
    """
    if alias is None:
        if kind in WEIGHTLESS:
            return None
        raise EngineError(f"`{kind}` needs a model: {_example(kind, '<task type>', settings)}")
    if (model := settings.models.get(alias)) is None:
        known = ", ".join(f"`{name}`" for name in settings.models) or "none"
        raise EngineError(f"there is no model `{alias}` in UNITASK_MODELS; known are: {known}")
    if kind not in model.kinds:
        raise EngineError(
            f"the model `{alias}` is a {model.pipeline}, which serves {', '.join(sorted(model.kinds))}, not `{kind}`;"
            " see UNITASK_MODELS"
        )
    return model


def example_of_model(declared: TaskType[Any], settings: Settings) -> str:
    """Say how a type is given a model of this machine, with lines to copy."""
    assert declared.engine_kind is not None, f"{declared.name} asks no engine for anything"
    return _example(declared.engine_kind, declared.name, settings)


def _example(kind: str, task_type: str, settings: Settings) -> str:
    able = [alias for alias, model in settings.models.items() if kind in model.kinds]
    alias = able[0] if able else "mine"
    as_default = f'UNITASK_PROVIDERS=\'{{"{task_type}": "{ENGINE}:{alias}"}}\''
    if able:
        return f"name one of {', '.join(f'`{name}`' for name in able)} as `model_name`, or set {as_default}"
    pipeline = [name for name, kinds in PIPELINES.items() if kind in kinds][-1]
    row = f'{{"{alias}": {{"pipeline": "{pipeline}", "path": "/folder/of/its/weights"}}}}'
    return f"set UNITASK_MODELS='{row}' before `unitask up`, and name it as `model_name`, or set {as_default}"


def require_engine(declared: TaskType[Any], params: dict[str, Any], alias: str | None, settings: Settings) -> None:
    """Refuse work of the pool `gpu` that no engine here could do.

    Raises `EngineError` that names the setting or the parameter.

    Known only where workers and creators share one machine and its settings, as for providers; elsewhere the worker
    says so (docs/decisions/0011-models-are-a-setting-of-the-worker.md).
    """
    if settings.database_url or declared.engine_kind is None:
        return
    model = model_for(declared.engine_kind, alias or default_model(declared.name, settings), settings)
    declared.require(params, model)
