"""The pipelines of Wan: frames between images by guide and mask (VACE) or by first and last frame, and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from PIL import Image

from tasks_lib.engines.base import Frame, GenerateRequest, InbetweenRequest, PromptedRequest
from tasks_lib.engines.colour_match import matched
from tasks_lib.engines.diffusers.guide import build_guide, quantised
from tasks_lib.engines.diffusers.phases import threshold
from tasks_lib.engines.diffusers.run import Made, Run, cropped, drawn_size, frames_of, padded
from tasks_lib.engines.diffusers.steps import Steps
from tasks_lib.errors import EngineError, TaskValidationError
from tasks_lib.media.images import load_image
from tasks_lib.media.video import read_frames, tail_frames
from tasks_lib.params.phases import PhaseConfig

_FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}


def _euler(shift: float) -> Any:
    # Shifted from the start, this one shifts its least noise twice.
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_shift(shift)
    return scheduler


SOLVERS: dict[str, Any] = {
    "euler": _euler,
    "unipc": lambda shift: UniPCMultistepScheduler(flow_shift=shift, **_FLOW),
    "dpm++": lambda shift: DPMSolverMultistepScheduler(flow_shift=shift, **_FLOW),
}


def by_guide(run: Run, request: InbetweenRequest) -> Made:
    """VACE: what is known of the clip is shown and kept, the rest is painted."""
    lead, known = known_frames(request)
    total = request.frames + lead
    count = quantised(total)
    width, height = drawn_size(request.width, request.height)
    shown = {i: padded(frame, width, height) for i, frame in known.items()}
    if request.end is not None:
        # Frames that are made only to be cut off hold still, so that the end is reached where it was asked for.
        shown |= dict.fromkeys(range(total, count), shown[total - 1])
    steering = [] if request.guide is None else [padded(f, width, height) for f in read_frames(request.guide)]
    # The guide begins with the first frame that was asked for; one made before that is known.
    guide = build_guide(count, (height, width), shown, steering[:lead] + steering)
    pictures = _video(
        run,
        request,
        video=[Image.fromarray(frame) for frame in guide.frames],
        mask=[Image.fromarray(mask) for mask in guide.masks],
        num_frames=count,
        conditioning_scale=1.0 if request.guide is None else request.guide_strength,
    )
    return Made(_exact(pictures[:total], request, known, lead), "vace", _matched_note(request))


def by_ends(run: Run, request: InbetweenRequest) -> Made:
    """First and last frame: of a clip before, the model sees the last image alone."""
    if request.guide is not None or request.shown:
        raise EngineError(
            "a guide video, and pictures inside a clip, need a WanVACEPipeline; this model sees the first and last"
            " frame alone"
        )
    lead, known = known_frames(request)
    first = request.context.frames - 1 if request.context else 0
    span = request.frames + lead - first
    count = quantised(span)
    width, height = drawn_size(request.width, request.height)
    ends = {"image": known[first]}
    if request.end is not None:
        ends["last_image"] = known[max(known)]
    pictures = _video(
        run, request, num_frames=count, **{name: Image.fromarray(padded(f, width, height)) for name, f in ends.items()}
    )
    # Up to three frames too many are left out at even distances, so that both ends stay where they are.
    spread = [pictures[round(i * (count - 1) / max(span - 1, 1))] for i in range(span)]
    timeline = [known[i] for i in range(first)] + spread
    frames = _exact(timeline, request, known, lead, drawn_from=first)
    return Made(frames, "first_last_frame" if request.end else "first_frame", _matched_note(request))


def picture(run: Run, request: GenerateRequest) -> Made:
    """A picture is a video of one frame."""
    frames = _video(run, request, num_frames=1)
    return Made([cropped(frame, request.width, request.height) for frame in frames], "text_to_image")


def known_frames(request: InbetweenRequest) -> tuple[int, dict[int, Frame]]:
    """How many frames are made before the first that was asked for, and the known ones of what is made, by place."""
    size = (request.width, request.height)
    lead = int(not request.start_included and request.context is None)
    if request.context:
        known = dict(enumerate(tail_frames(request.context.video, request.context.frames)))
        if any(frame.shape != (request.height, request.width, 3) for frame in known.values()):
            raise EngineError(f"the context has not the size of the frames, {request.width} x {request.height}")
    else:
        known = {0: load_image(request.start, *size)}
    if request.end is not None:
        known[request.frames + lead - 1] = load_image(request.end, *size)
    for place, picture in request.shown:
        known.setdefault(place + lead, load_image(picture, *size))
    return lead, known


def _exact(
    pictures: list[Frame], request: InbetweenRequest, known: dict[int, Frame], lead: int, drawn_from: int = 0
) -> list[Frame]:
    """What was known comes out as it went in, and as many frames as were asked for, whatever the model did.

    From `drawn_from` on the model drew the known frames again, which shows what it does to colours.
    """
    frames = [cropped(picture, request.width, request.height) for picture in pictures]
    if len(frames) != request.frames + lead:
        raise EngineError(f"the model made {len(frames)} frames instead of {request.frames + lead}")
    if request.colour_match:
        frames = matched(frames, {i: frame for i, frame in known.items() if i >= drawn_from})
    return [known.get(i, frame) for i, frame in enumerate(frames)][lead:]


def _matched_note(request: InbetweenRequest) -> tuple[str, ...]:
    return ("the colours were brought to those of the frames that were given",) if request.colour_match else ()


def _video(run: Run, request: InbetweenRequest | GenerateRequest, **arguments: Any) -> list[Frame]:
    width, height = drawn_size(request.width, request.height)
    with _schedule(run, request.phases if isinstance(request, InbetweenRequest) else None):
        steps = run.steps(width, height)
        made = run.call(steps, height=height, width=width, **words(run, request, steps), **arguments)
    return frames_of(made.frames[0])


def words(run: Run, request: PromptedRequest, steps: Steps) -> dict[str, Any]:
    """The prompts, encoded here: a first step without guidance must not keep a later one from its negative prompt."""
    guided = [step.guidance for step in run.plan.steps if step.guidance is not None]
    prompt, negative = run.pipeline.encode_prompt(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        do_classifier_free_guidance=not guided or max(guided) > 1,
        device=run.pipeline._execution_device,
    )
    guidance = {"guidance_scale": steps.guidance} if guided else {}
    return {"prompt_embeds": prompt, "negative_prompt_embeds": negative, **guidance}


@contextmanager
def _schedule(run: Run, phases: PhaseConfig | None) -> Iterator[None]:
    """The solver and shift of the phases, and the step at which the second of a pair takes over, for one run."""
    pipeline = run.pipeline
    scheduler, boundary = pipeline.scheduler, pipeline.config.get("boundary_ratio")
    try:
        if phases is not None:
            pipeline.scheduler = _solver(phases)
            if boundary is not None and run.plan.switch is not None:
                pipeline.scheduler.set_timesteps(len(run.plan.steps))
                at = threshold(pipeline.scheduler.timesteps.tolist(), run.plan.switch)
                pipeline.register_to_config(boundary_ratio=at / pipeline.scheduler.config.num_train_timesteps)
        yield
    finally:
        pipeline.scheduler = scheduler
        if phases is not None:
            pipeline.register_to_config(boundary_ratio=boundary)


def _solver(phases: PhaseConfig) -> Any:
    if phases.sample_solver not in SOLVERS:
        known = ", ".join(SOLVERS)
        raise TaskValidationError(
            f"`phase_config.sample_solver` is `{phases.sample_solver}`; known are {known}", "phase_config.sample_solver"
        )
    return SOLVERS[phases.sample_solver](phases.flow_shift)
