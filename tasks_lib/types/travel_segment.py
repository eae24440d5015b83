"""One piece of a travel: from its start image to its end image, or on from the piece before."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tasks_lib.params.asked import merged_notes
from tasks_lib.params.base import MediaReference, Resolution, Text, size_of
from tasks_lib.params.loras import LoraParams
from tasks_lib.params.model import VideoModelParams
from tasks_lib.params.motion import ColourParams, VideoMotionParams
from tasks_lib.params.structure import GuidedPartParams
from tasks_lib.planning.travel import segment_key
from tasks_lib.queue import Output
from tasks_lib.types.base import TaskParams, TaskType, as_given
from tasks_lib.types.guiding import build_guide, require_guide, unfollowed

if TYPE_CHECKING:
    from tasks_lib.engines.bench import Bench


class TravelSegmentParams(GuidedPartParams, ColourParams, VideoMotionParams, VideoModelParams, LoraParams, TaskParams):
    """What the travel's plan says about one segment."""

    segment_index: Annotated[int, Field(ge=0)]
    """Place in the travel, from 0."""

    start_image: MediaReference
    """The image that it starts from."""

    end_image: MediaReference | None = None
    """The image that it reaches with its last frame; none for a journey from one image."""

    frames: Annotated[int, Field(ge=1)]
    """Frames to render, the overlap with the segment before included."""

    overlap_before: Annotated[int, Field(ge=0)] = 0
    """In a chain: how many of the first frames repeat the tail of the segment before."""

    continues: bool = False
    """Whether it goes on from the segment before instead of showing its start image first."""

    prompt: Text = ""
    """What it shows."""

    negative_prompt: Text = ""
    """What it must not show."""

    resolution: Resolution
    """WIDTHxHEIGHT in pixels."""

    fps: Annotated[int, Field(ge=1, le=120)] = 16
    """Frames per second."""


def execute(bench: Bench) -> Output:
    """Render the segment and keep it lossless: the film is encoded once, by the stitch."""
    return render(bench, TravelSegmentParams.parse(bench.params), lossless=True)


def render(bench: Bench, params: TravelSegmentParams, *, lossless: bool) -> Output:
    """Render a segment, for a stitch (lossless) or to be looked at."""
    from tasks_lib.engines.base import Context, InbetweenRequest
    from tasks_lib.media.colour import adjusted
    from tasks_lib.media.video import write_video

    model = bench.model_for(InbetweenRequest.kind)
    require_guide(bench.params, model)
    width, height = size_of(params.resolution)
    guide = build_guide(bench, params, model, frames=params.frames, width=width, height=height, fps=params.fps)
    context = None
    if params.continues and params.overlap_before:
        before = bench.input_file(segment_key(params.segment_index - 1))
        context = Context(video=before, frames=params.overlap_before)
    result = bench.run(
        InbetweenRequest(
            start=bench.fetch(params.start_image),
            end=bench.fetch(params.end_image) if params.end_image else None,
            frames=params.frames,
            width=width,
            height=height,
            context=context,
            start_included=not params.continues,
            prompt=params.prompt,
            negative_prompt=params.negative_prompt,
            seed=params.seed,
            steps=params.steps,
            loras=tuple(params.loras),
            phases=params.phase_config,
            fps=params.fps,
            guide=guide.path if guide else None,
            guide_strength=guide.strength if guide else 1.0,
            colour_match=params.colour_match,
        )
    )
    frames = result.frames
    if params.segment_index:
        frames = adjusted(
            frames, params.after_first_post_generation_saturation, params.after_first_post_generation_brightness
        )
    path = bench.folder / ("segment.mkv" if lossless else "segment.mp4")
    write_video(path, frames, params.fps, lossless=lossless)
    notes = unfollowed(bench, params, model)
    bench.note(*notes)
    provenance = replace(result.provenance, notes=tuple(merged_notes([*notes, *result.provenance.notes])))
    guided = {"guided_frames": guide.frames if guide else 0} if model and params.guidance() else {}
    return bench.output(path, expect_frames=params.frames, provenance=provenance.as_dict(), **guided)


def estimate_seconds(params: dict[str, Any]) -> float:
    """An upper bound by experience: half a second for a frame on a slow CPU, and a start."""
    return float(10 + params["frames"] / 2)


TASK_TYPE = TaskType(
    name="travel_segment",
    params=TravelSegmentParams,
    run_type="gpu",
    category="processing",
    display_name="Video Segment Generation",
    description="One segment of a travel between images.",
    prepare=as_given,
    execute=execute,
    engine_kind="inbetween",
    require=require_guide,
    estimate_seconds=estimate_seconds,
    public=False,
    tool_type="travel-between-images",
    content_type="video",
)
