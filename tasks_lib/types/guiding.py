"""From the guide of a request to the video that steers a model: of exactly as many frames as are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks_lib.errors import EngineError
from tasks_lib.models import Model
from tasks_lib.params.structure import GuidedPartParams, StructureGuidance, StructureGuidanceParams
from tasks_lib.planning.guides import Source, in_view, plan_guide

if TYPE_CHECKING:
    from tasks_lib.engines.bench import Bench
    from tasks_lib.engines.signals import Draw

NO_UNI3C = "no pipeline here takes a guide by `uni3c`"


@dataclass(frozen=True)
class Guide:
    """A guide as an engine takes it: a video, how strongly it steers, and how many of its frames do."""

    path: Path
    strength: float
    frames: int


def require_guide(params: dict[str, Any], model: Model | None) -> None:
    """Refuse a guide that the model cannot follow. The engine without weights follows none, and its results say so.

    Raises `EngineError` that names the parameter, and the setting where there is one.
    """
    known = StructureGuidanceParams.model_fields
    given = StructureGuidanceParams.parse({name: value for name, value in params.items() if name in known})
    guidance = given.guidance()
    if guidance is None or model is None:
        return
    field = "structure_video_path" if given.structure_video_path else "structure_guidance"
    if guidance.target == "uni3c":
        raise EngineError(
            f"`structure_guidance.target`: {NO_UNI3C}; say `vace`, with a model that is a WanVACEPipeline"
        )
    if not model.sees_frames:
        raise EngineError(
            f"`{field}`: a {model.pipeline} follows no guide; name a WanVACEPipeline of UNITASK_MODELS as `model_name`,"
            f" or leave `{field}` out"
        )
    if guidance.preprocessing == "depth" and model.depth is None:
        kind = "structure_video_type" if given.structure_video_path else "structure_guidance.preprocessing"
        raise EngineError(
            f"`{kind}` is `depth`: `depth` of the model in UNITASK_MODELS must name the folder of a Depth Anything or"
            " DPT model"
        )


def unfollowed(bench: Bench, params: StructureGuidanceParams, model: Model | None) -> list[str]:
    """What a result must say of a guide that was asked for and is not followed."""
    guidance = params.guidance()
    if guidance is None or model is not None:
        return []
    why = NO_UNI3C if guidance.target == "uni3c" else "that takes a model that is a WanVACEPipeline"
    return [note for name in GuidedPartParams.model_fields for note in bench.unfollowed(name, why)]


def build_guide(
    bench: Bench, params: GuidedPartParams, model: Model | None, *, frames: int, width: int, height: int, fps: float
) -> Guide | None:
    """Draw the guide of a part of `frames` frames, in its size; None where nothing guides it.

    Raises `TaskValidationError` for a guide that is no video, or ends before its `source_start_frame`.
    """
    from tasks_lib.engines.base import watched
    from tasks_lib.engines.signals import drawn
    from tasks_lib.media.clips import Form
    from tasks_lib.media.video import check_length, probe, write_video

    guidance = params.guidance()
    moving = guidance is not None and guidance.preprocessing == "flow"
    if guidance is None or model is None or (guidance.strength == 0 and not moving):
        return None
    window = {"film": params.film_frames or params.film_start + frames, "start": params.film_start, "frames": frames}
    of_path: dict[str, tuple[Path, Source]] = {}
    used = {i: guidance.videos[i].path for i in in_view(guidance.videos, **window)}
    for reference in dict.fromkeys(used.values()):
        file = bench.fetch(reference)
        check_length(file)
        facts = probe(file)
        of_path[reference] = file, Source(facts.frames, facts.fps)
    sources = {i: of_path[reference][1] for i, reference in used.items()}
    plan = plan_guide(guidance.videos, sources, **window, fps=fps)
    guided = sum(sight is not None for sight in plan)
    if not guided:
        return None
    files = {i: of_path[reference][0] for i, reference in used.items()}
    pictures = drawn(plan, files, Form(width, height, fps), _draw(guidance, model), moving=moving)
    path = bench.folder / "guide.mkv"
    seen = watched(pictures, frames, on_progress=lambda *_: None, cancelled=bench.cancelled)
    write_video(path, seen, fps, lossless=True)
    return Guide(path, 1.0 if moving else guidance.strength, guided)


def _draw(guidance: StructureGuidance, model: Model) -> Draw:
    from tasks_lib.engines import signals

    match guidance.preprocessing:
        case "flow":
            return signals.flow(guidance.strength)
        case "canny":
            return signals.edges(guidance.canny_intensity)
        case "depth":
            try:
                from tasks_lib.engines.diffusers.depth import depth
            except ImportError as error:
                raise EngineError(f"a guide of depth needs the extra `gpu` on this worker: {error}") from error
            assert model.depth is not None, "it was required before"
            return depth(model.depth, guidance.depth_contrast)
        case "none":
            return signals.as_is
