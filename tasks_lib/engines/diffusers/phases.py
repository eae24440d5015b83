"""What each inference step does: its guidance, the strength of each adapter, and which of a pair of models it uses.

Pure: from a request's phases (or its one set of numbers) to a list of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks_lib.errors import TaskValidationError
from tasks_lib.params.loras import Lora
from tasks_lib.params.phases import PhaseConfig


@dataclass(frozen=True)
class Step:
    """One step. `strengths` has an entry for each adapter of the plan; None leaves the guidance to the pipeline."""

    guidance: float | None
    strengths: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """All steps. `adapters` are the places of the adapters; `switch` is the step at which the second model begins."""

    steps: tuple[Step, ...]
    adapters: tuple[str, ...]
    switch: int | None = None


def plan_steps(steps: int, guidance: float | None, loras: Sequence[Lora], phases: PhaseConfig | None) -> Plan:
    """The plan of a run: `steps` equal ones, or those of the phases, under the adapters that act in all of them.

    An adapter of several phases is one adapter with several strengths, 0 where a phase does not name it. A multiplier
    with commas has one number for each step of its phase. Raises `TaskValidationError` where the counts disagree.
    """
    always = tuple(lora.strength for lora in loras)
    if phases is None:
        return Plan((Step(guidance, always),) * steps, tuple(lora.path for lora in loras))
    own = list(dict.fromkeys(lora.url for phase in phases.phases for lora in phase.loras))
    made: list[Step] = []
    for i, (phase, count) in enumerate(zip(phases.phases, phases.steps_per_phase, strict=True)):
        ramps = dict.fromkeys(own, [0.0] * count)
        for j, lora in enumerate(phase.loras):
            ramps[lora.url] = _ramp(lora.multiplier, count, f"phase_config.phases[{i}].loras[{j}].multiplier")
        made += [Step(phase.guidance_scale, (*always, *(ramps[url][k] for url in own))) for k in range(count)]
    switch = sum(phases.steps_per_phase[: phases.model_switch_phase])
    return Plan(tuple(made), (*(lora.path for lora in loras), *own), switch)


def threshold(timesteps: Sequence[float], switch: int) -> float:
    """The time, as the scheduler counts it down, between the last step before a switch and the first one after it."""
    return (timesteps[switch - 1] + timesteps[switch]) / 2


def _ramp(multiplier: str, count: int, field: str) -> list[float]:
    values = [float(part) for part in multiplier.split(",")]
    if len(values) not in {1, count}:
        raise TaskValidationError(f"`{field}` has {len(values)} numbers; its phase has {count} steps", field)
    return values * count if len(values) == 1 else values
