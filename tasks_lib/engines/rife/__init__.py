"""In-between frames by RIFE, with weights that the user has: an engine that only a row of the table asks for."""

from tasks_lib.engines.rife.engine import RifeEngine

__all__ = ["RifeEngine"]
