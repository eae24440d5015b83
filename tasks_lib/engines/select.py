"""Which engine serves a request, by the settings."""

from __future__ import annotations

from tasks_lib.engines.base import Engine, Request
from tasks_lib.engines.embedded import EmbeddedEngine
from tasks_lib.errors import EngineError
from tasks_lib.models import RIFE
from tasks_lib.serving import model_for
from tasks_lib.settings import get_settings


def engine_for(request: Request, alias: str | None) -> Engine:
    """The engine of a model of the table; without an alias the one that needs no weights.

    Raises `EngineError` that names the setting where nothing that is configured serves such a request.
    """
    settings = get_settings()
    model = model_for(request.kind, alias, settings)
    if model is None:
        return EmbeddedEngine()
    if model.pipeline == RIFE:
        from tasks_lib.engines.rife import RifeEngine

        return RifeEngine(str(alias), model, settings)
    try:
        from tasks_lib.engines.diffusers.engine import DiffusersEngine
    except ImportError as error:
        raise EngineError(f"the model `{alias}` needs the extra `gpu` on this worker: {error}") from error
    return DiffusersEngine(str(alias), model, settings)
