"""The film of a travel: its segments joined, with cross-fades where they overlap, and encoded once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tasks_lib.planning.travel import segment_key
from tasks_lib.queue import Output
from tasks_lib.types.base import TaskParams, TaskType, as_given

if TYPE_CHECKING:
    from tasks_lib.engines.bench import Bench


class TravelStitchParams(TaskParams):
    """What the travel's plan says about the joints."""

    segments: Annotated[int, Field(ge=1)]
    """How many segments there are."""

    overlaps: list[Annotated[int, Field(ge=0)]]
    """Frames that each joint shares."""

    independent_segments: bool = True
    """Whether the segments were made at the same time, or each from the tail of the one before."""

    fps: Annotated[int, Field(ge=1, le=120)] = 16
    """Frames per second."""

    total_frames: Annotated[int, Field(ge=1)]
    """Frames of the film; another count is a failure."""

    keyframes: list[int]
    """Where the images stand, for the contact sheet."""


def execute(bench: Bench) -> Output:
    """Join the segments, and draw a contact sheet of the film."""
    from tasks_lib.media.sheet import contact_sheet, save_preview
    from tasks_lib.media.stitch import Part, stitch

    params = TravelStitchParams.parse(bench.params)
    keys = [segment_key(i) for i in range(params.segments)]
    film, sheet = bench.folder / "film.mp4", bench.folder / "contact_sheet.png"
    stitch(
        [Part.of(bench.input_file(key)) for key in keys],
        params.overlaps,
        film,
        params.fps,
        mode="independent" if params.independent_segments else "chained",
        on_progress=bench.on_progress,
        cancelled=bench.cancelled,
    )
    contact_sheet(film, sheet, marks=params.keyframes)
    bench.gather_notes()
    preview = save_preview(sheet, bench.folder / "contact_sheet.jpg")
    return bench.output(
        film,
        expect_frames=params.total_frames,
        contact_sheet=bench.keep(sheet),
        contact_sheet_preview=bench.keep(preview),
        segments=[{"key": key, **bench.inputs[key]["result"]["provenance"]} for key in keys],
    )


def estimate_seconds(params: dict[str, Any]) -> float:
    """An upper bound by experience: ten frames a second, and a start."""
    return float(10 + params["total_frames"] / 10)


TASK_TYPE = TaskType(
    name="travel_stitch",
    params=TravelStitchParams,
    run_type="gpu",
    category="processing",
    display_name="Video Generation",
    description="Joins the segments of a travel into one film.",
    prepare=as_given,
    execute=execute,
    estimate_seconds=estimate_seconds,
    public=False,
    tool_type="travel-between-images",
    content_type="video",
)
