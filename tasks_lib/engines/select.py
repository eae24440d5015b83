"""Which engine serves a request, by the settings."""

from __future__ import annotations

from tasks_lib.engines.base import Engine, Request
from tasks_lib.engines.embedded import EmbeddedEngine
from tasks_lib.errors import EngineError
from tasks_lib.serving import model_for
from tasks_lib.settings import get_settings


def engine_for(request: Request, alias: str | None) -> Engine:
    """The engine of a model of the table; without an alias the one that needs no weights.

    Raises `EngineError` that names the setting where nothing that is configured serves such a request.
    """
    model = model_for(request.kind, alias, get_settings())
    if model is None:
        return EmbeddedEngine()
    raise EngineError(f"no engine for models is installed here, so `{alias}` cannot be loaded")
