"""What the embedded engine says of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from tasks_lib.engines.base import ModelRef, Provenance

NAME = "embedded"
BY_PIXELS = "the engine `embedded` has no model, it only moves pixels"
FOLLOWED = frozenset(
    {
        *("width", "height", "start", "end", "frames", "context", "start_included", "fps", "shown"),
        *("image", "mask", "factor"),
    }
)
"""The fields of requests that it follows."""


def made(
    method: str,
    seed: int,
    notes: Sequence[str] = (),
    *,
    confidence: float | None = None,
    model: ModelRef | None = None,
    versions: Mapping[str, str] | None = None,
) -> Provenance:
    """The provenance of a result of this engine; `versions` are those of libraries beside OpenCV and NumPy."""
    return Provenance(
        engine=NAME,
        method=method,
        seed=seed,
        model=model,
        confidence=confidence,
        versions={"opencv": cv2.__version__, "numpy": np.__version__, **(versions or {})},
        notes=tuple(notes),
    )
