"""The film of joined clips: every clip without what was replaced, the bridges between them, encoded once."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tasks_lib.params.base import MediaReference
from tasks_lib.params.joins import ClipForm
from tasks_lib.planning.joins import Join, join_key
from tasks_lib.queue import Output
from tasks_lib.types.base import TaskParams, TaskType, as_given

if TYPE_CHECKING:
    from tasks_lib.engines.bench import Bench


class JoinStitchParams(ClipForm, TaskParams):
    """The clips of the film; the bridges are the outputs of the tasks before."""

    clips: Annotated[list[MediaReference], Field(min_length=2)]
    """The clips in order."""


def execute(bench: Bench) -> Output:
    """Cut the clips as the bridges say, and cross-fade each bridge with both its clips over the shared context."""
    from tasks_lib.media.clips import Form, open_clip
    from tasks_lib.media.stitch import Part, stitch

    params = JoinStitchParams.parse(bench.params)
    files = {reference: bench.fetch(reference) for reference in {params.first_clip, *params.clips}}
    form = Form.of(files[params.first_clip], params.resolution, params.fps)
    keys = [join_key(i) for i in range(len(params.clips) - 1)]
    joins = [Join.model_validate(bench.inputs[key]["result"]["join"]) for key in keys]

    parts, overlaps, total = [], [], 0
    for i, reference in enumerate(params.clips):
        clip = open_clip(files[reference], form)
        start = joins[i - 1].cut_after if i else 0
        stop = clip.count - (joins[i].cut_before if i < len(joins) else 0)
        parts.append(Part(clip.frames(start, stop), stop - start))
        total += stop - start
        if i < len(joins):
            parts.append(Part.of(bench.input_file(keys[i])))
            overlaps += [joins[i].context_before, joins[i].context_after]
            total += joins[i].gap
    film = bench.folder / "film.mp4"
    stitch(parts, overlaps, film, form.fps, mode="chained", on_progress=bench.on_progress, cancelled=bench.cancelled)
    return bench.output(
        film,
        expect_frames=total,
        joins=[{"key": key, **bench.inputs[key]["result"]["provenance"]} for key in keys],
    )


def estimate_seconds(params: dict[str, Any]) -> float:
    """The clips' lengths are not known before they are read: a minute for each."""
    return float(60 * len(params["clips"]))


TASK_TYPE = TaskType(
    name="join_final_stitch",
    params=JoinStitchParams,
    run_type="gpu",
    category="generation",
    display_name="Join Final Stitch",
    description="The film of joined clips.",
    prepare=as_given,
    execute=execute,
    estimate_seconds=estimate_seconds,
    public=False,
    base_cost_per_second=Decimal("0.005"),
    tool_type="join-clips",
    content_type="video",
)
