"""The bridge between two clips: context of the one, made frames, context of the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tasks_lib.errors import EngineError
from tasks_lib.models import Model
from tasks_lib.params.base import MediaReference
from tasks_lib.params.joins import ClipForm, JoinSettings
from tasks_lib.planning.joins import plan_join
from tasks_lib.queue import Output
from tasks_lib.types.base import TaskParams, TaskType, as_given

if TYPE_CHECKING:
    from tasks_lib.engines.bench import Bench


class JoinSegmentParams(JoinSettings, ClipForm, TaskParams):
    """What the plan of a join says about one bridge."""

    join_index: Annotated[int, Field(ge=0)]
    """Place in the film, from 0."""

    clip_before: MediaReference
    """The clip that it comes after."""

    clip_after: MediaReference
    """The clip that it leads to."""

    before_is_shared: bool = False
    """Whether the clip before has another bridge at its start: each then has the half of it."""

    after_is_shared: bool = False
    """Whether the clip after has another bridge at its end."""


def execute(bench: Bench) -> Output:
    """Make the bridge from the clips' own last and first frames, and keep it lossless."""
    from tasks_lib.engines.base import Context, InbetweenRequest
    from tasks_lib.media.clips import Form, open_clip
    from tasks_lib.media.images import save_png
    from tasks_lib.media.video import write_video

    params = JoinSegmentParams.parse(bench.params)
    require_frames(bench.params, bench.model_for(InbetweenRequest.kind))
    wanted = {params.first_clip, params.clip_before, params.clip_after}
    files = {reference: bench.fetch(reference) for reference in wanted}
    form = Form.of(files[params.first_clip], params.resolution, params.fps)
    before, after = open_clip(files[params.clip_before], form), open_clip(files[params.clip_after], form)
    join = plan_join(
        before.count // 2 if params.before_is_shared else before.count,
        after.count // 2 if params.after_is_shared else after.count,
        context=params.context_frame_count,
        gap=params.gap_frame_count,
        replace=params.replace_mode,
    )
    last = before.count - join.cut_before
    shown = list(before.frames(last - join.context_before, last))
    ahead = list(after.frames(join.cut_after, join.cut_after + join.context_after))

    context, start, end = (bench.folder / name for name in ("context.mkv", "start.png", "end.png"))
    write_video(context, iter(shown), form.fps, lossless=True)
    save_png(start, shown[-1])
    save_png(end, ahead[0])
    kept: list[tuple[int, Path]] = []
    if params.keep_bridging_images and join.bridging:
        ends = (*before.frames(before.count - 1, before.count), *after.frames(0, 1))
        for place, picture in zip(join.bridging, ends, strict=True):
            kept.append((place, bench.folder / f"kept_{place:03d}.png"))
            save_png(kept[-1][1], picture)
    result = bench.run(
        InbetweenRequest(
            start=start,
            end=end,
            # The engine ends on the first frame of the context ahead; the rest of that context is the clip's own.
            frames=join.context_before + join.gap + 1,
            width=form.width,
            height=form.height,
            context=Context(video=context, frames=join.context_before),
            prompt=params.prompt,
            negative_prompt=params.negative_prompt,
            seed=max(params.seed, 0),
            steps=params.steps,
            guidance=params.guidance_scale,
            loras=tuple(params.loras),
            phases=params.phase_config,
            fps=form.fps,
            shown=tuple(kept),
            colour_match=params.colour_match,
        )
    )
    provenance = result.provenance
    if params.keep_bridging_images and not kept:
        unseen = f"`keep_bridging_images` was not followed: a gap of {join.gap} frames has no room for them"
        bench.note(unseen)
        provenance = replace(provenance, notes=(*provenance.notes, unseen))

    def bridge() -> Any:
        yield from result.frames
        yield from ahead[1:]

    path = bench.folder / "bridge.mkv"
    write_video(path, bridge(), form.fps, lossless=True)
    return bench.output(path, expect_frames=join.frames, join=join.model_dump(), provenance=provenance.as_dict())


def require_frames(params: dict[str, Any], model: Model | None) -> None:
    """Refuse pictures inside the gap where the model sees none there. Raises `EngineError` that names the parameter."""
    if params.get("keep_bridging_images") and not (model and model.sees_frames):
        raise EngineError(
            "`keep_bridging_images` needs a model that sees pictures inside the gap: name a WanVACEPipeline of"
            " UNITASK_MODELS as `model_name`, or leave it out"
        )


def estimate_seconds(params: dict[str, Any]) -> float:
    """As for a segment of a travel, and the reading of two clips."""
    return float(40 + (params["gap_frame_count"] + 2 * params["context_frame_count"]) / 2)


TASK_TYPE = TaskType(
    name="join_clips_segment",
    params=JoinSegmentParams,
    run_type="gpu",
    category="processing",
    display_name="Join Clips Segment",
    description="The bridge between two clips.",
    prepare=as_given,
    execute=execute,
    engine_kind="inbetween",
    require=require_frames,
    estimate_seconds=estimate_seconds,
    public=False,
    tool_type="join-clips",
    content_type="video",
)
