"""The film of joined clips: every clip without what was replaced, the bridges between them, encoded once."""

from __future__ import annotations

from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tasks_lib.errors import TaskValidationError
from tasks_lib.params.base import MediaReference
from tasks_lib.params.joins import ClipForm
from tasks_lib.planning.joins import Join, join_key, kept_frames, voices
from tasks_lib.queue import Output
from tasks_lib.types.base import TaskParams, TaskType, as_given

if TYPE_CHECKING:
    from tasks_lib.engines.bench import Bench


class JoinStitchParams(ClipForm, TaskParams):
    """The clips of the film; the bridges are the outputs of the tasks before."""

    clips: Annotated[list[MediaReference], Field(min_length=1)]
    """The clips in order."""

    loop: bool = False
    """Whether a last bridge leads from the last clip to the first."""

    audio_url: MediaReference | None = None
    """The track that is heard instead of the clips."""


def execute(bench: Bench) -> Output:
    """Cut the clips as the bridges say, and cross-fade each bridge with both its clips over the shared context.

    The clips are heard where they are seen, and where a bridge stands for their frames; see `planning.joins.voices`.
    """
    from tasks_lib.media.clips import Form, open_clip
    from tasks_lib.media.sound import Piece, has_sound, mixed
    from tasks_lib.media.stitch import Part, stitch
    from tasks_lib.media.video import read_pictures

    params = JoinStitchParams.parse(bench.params)
    files = {reference: bench.fetch(reference) for reference in {params.first_clip, *params.clips}}
    form = Form.of(files[params.first_clip], params.resolution, params.fps)
    keys = [join_key(i) for i in range(len(params.clips) - (not params.loop))]
    joins = [Join.model_validate(bench.inputs[key]["result"]["join"]) for key in keys]
    clips = [open_clip(files[reference], form) for reference in params.clips]
    kept = kept_frames([clip.count for clip in clips], joins)

    parts, overlaps = [], []
    for i, clip in enumerate(clips):
        parts.append(Part(clip.frames(*kept[i]), kept[i][1] - kept[i][0]))
        if i < len(joins):
            join, bridge = joins[i], read_pictures(bench.input_file(keys[i]))
            overlaps += [join.context_before]
            if i + 1 < len(clips):
                parts.append(Part(bridge, join.frames))
                overlaps += [join.context_after]
            else:  # What follows the last bridge of a loop is the beginning of the film.
                parts.append(Part(islice(bridge, join.frames - join.context_after), join.frames - join.context_after))
    total = sum(part.count for part in parts) - sum(overlaps)

    pieces = []
    if params.audio_url is not None:
        track = bench.fetch(params.audio_url)
        if not has_sound(track):
            raise TaskValidationError("`audio_url` holds no sound", "audio_url")
        pieces = [Piece(track, 0, total / form.fps)]
    else:
        for voice in voices([clip.count for clip in clips], joins):
            clip = clips[voice.clip]
            if has_sound(clip.path):
                seconds = [frames / form.fps for frames in (voice.start, voice.frames, voice.fade_in, voice.fade_out)]
                start, length, fade_in, fade_out = seconds
                origin = clip.begin + voice.skip / form.fps
                pieces.append(Piece(clip.path, start, length, origin, fade_in, fade_out))
    film = bench.folder / "film.mp4"
    stitch(
        parts,
        overlaps,
        film,
        form.fps,
        mode="chained",
        on_progress=bench.on_progress,
        cancelled=bench.cancelled,
        sound=mixed(pieces, total, form.fps) if pieces else None,
    )
    bench.gather_notes()
    return bench.output(
        film,
        expect_frames=total,
        sound="audio_url" if params.audio_url else "clips" if pieces else None,
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
