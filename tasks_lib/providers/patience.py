"""When to look at a job next: not while it cannot be done, often when it should be, less and less often after."""

from __future__ import annotations

PART_OF_AGE = 0.2
"""Of a job that nothing is known about, no result waits longer than this part of its age."""
NEARLY = 0.8
STEPS_WHEN_DUE = 0.1
MOST_GROWTH = 50
NEWEST = 0.3


class Patience:
    """What one worker has learned of how long jobs take, model by model. Seconds throughout."""

    def __init__(self, shortest: float) -> None:
        self._shortest = shortest
        self._usual: dict[str, float] = {}

    def took(self, model: str, seconds: float) -> None:
        """A job of a model was seen to be done after so long."""
        usual = self._usual.get(model, seconds)
        self._usual[model] = usual + NEWEST * (seconds - usual)

    def pause(self, model: str, age: float) -> float:
        """How long to wait with the next look at a job of that age."""
        pause = PART_OF_AGE * age
        if (usual := self._usual.get(model)) is not None:
            if age < NEARLY * usual:
                pause = NEARLY * usual - age
            elif age < usual / NEARLY:
                pause = STEPS_WHEN_DUE * usual
        return min(max(pause, self._shortest), MOST_GROWTH * self._shortest)
