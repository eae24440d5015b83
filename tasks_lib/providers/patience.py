"""When to look at a job next: not while it cannot be done, often when it should be, less and less often after."""

from __future__ import annotations

from dataclasses import dataclass

PART_OF_AGE = 0.1
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

    @property
    def around(self) -> float:
        """How far from the mean a job may end at any moment."""
        return max(self.spread, FINEST * self.seconds)

    @property
    def due(self) -> float:
        """The age from which on a job is looked at."""
        return self.seconds - self.around


class Patience:
    """What one worker has learned of how long jobs take, model by model. Seconds throughout.

    Mean and mean deviation are kept as TCP keeps them of round trips (RFC 6298, 2).
    """

    def __init__(self, shortest: float) -> None:
        self._shortest = shortest
        self._usual: dict[str, _Usual] = {}

    def took(self, model: str, running: float, done: float) -> None:
        """A job of a model was last seen running at one age, 0 if never, and done at another: it took something in
        between.
        """
        if not running and (usual := self._usual.get(model)):
            # It was not looked at before it was due: that it was done by then does not mean that it was so for long.
            # Where all are, each step towards an earlier look is longer than the last.
            early = usual.due - 2 * usual.around
            running = early if 0 < early < done else 0
        seconds, unsure = (running + done) / 2, (done - running) / 2
        before = self._usual.get(model, _Usual(seconds, unsure))
        off = max(abs(seconds - before.seconds), unsure)
        self._usual[model] = _Usual(
            before.seconds + NEWEST * (seconds - before.seconds), before.spread + NEWEST * (off - before.spread)
        )

    def pause(self, model: str, age: float) -> float:
        """How long to wait with the next look at a job of that age."""
        if (usual := self._usual.get(model)) is not None:
            if age < usual.due:
                return min(max(usual.due - age, self._shortest), MOST_GROWTH * self._shortest)
            if age < usual.seconds + usual.around:
                return max(2 * usual.around / LOOKS_WHEN_DUE, self._shortest / LOOKS_WHEN_DUE)
        return min(max(PART_OF_AGE * age, self._shortest), MOST_GROWTH * self._shortest)
