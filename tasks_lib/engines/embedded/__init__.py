"""The engine that needs no weights, no download and no GPU: it moves the pixels that it is given."""

from tasks_lib.engines.embedded.engine import EmbeddedEngine

__all__ = ["EmbeddedEngine"]
