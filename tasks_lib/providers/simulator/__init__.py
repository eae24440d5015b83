"""A provider of one's own, for tests and trials: speaks as Replicate and as fal do, and misbehaves on command."""

from tasks_lib.providers.simulator.books import Call, Fault, SimJob
from tasks_lib.providers.simulator.server import Simulator

__all__ = ["Call", "Fault", "SimJob", "Simulator"]
