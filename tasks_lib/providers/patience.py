"""When to look at a job next: not while it cannot be done, often when it should be, less and less often after."""

from __future__ import annotations

from dataclasses import dataclass

PART_OF_AGE = 0.2
"""Of a job that nothing is known about, no result waits longer than this part of its age."""
LOOKS_WHEN_DUE = 4
FINEST = 0.02
"""Jobs of a model are not expected to be more alike than to this part of their time."""
MOST_GROWTH = 50
NEWEST = 0.25


@dataclass(frozen=True)
class _Usual:
    """How long jobs of a model take, and how far from it they commonly end, in seconds."""

    seconds: float
    spread: float


class Patience:
    """What one worker has learned of how long jobs take, model by model. Seconds throughout.

    Mean and mean deviation are kept as TCP keeps them of round trips (RFC 6298, 2).
    """

    def __init__(self, shortest: float) -> None:
        self._shortest = shortest
        self._usual: dict[str, _Usual] = {}

    def took(self, model: str, running: float, done: float) -> None:
        """A job of a model was seen running at one age and done at another: it took something in between."""
        seconds, unsure = (running + done) / 2, (done - running) / 2
        before = self._usual.get(model, _Usual(seconds, unsure))
        off = max(abs(seconds - before.seconds), unsure)
        self._usual[model] = _Usual(
            before.seconds + NEWEST * (seconds - before.seconds), before.spread + NEWEST * (off - before.spread)
        )

    def pause(self, model: str, age: float) -> float:
        """How long to wait with the next look at a job of that age."""
        if (usual := self._usual.get(model)) is not None:
            around = max(usual.spread, FINEST * usual.seconds)
            due = usual.seconds - around
            if age < due:
                return min(max(due - age, self._shortest), MOST_GROWTH * self._shortest)
            if age < usual.seconds + around:
                return max(2 * around / LOOKS_WHEN_DUE, self._shortest / LOOKS_WHEN_DUE)
        return min(max(PART_OF_AGE * age, self._shortest), MOST_GROWTH * self._shortest)
