"""How our own engines make the pictures and videos of types that providers serve otherwise: rows to requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from tasks_lib.params.asked import merged_notes
from tasks_lib.params.base import size_of
from tasks_lib.params.loras import Lora
from tasks_lib.params.phases import PhaseConfig
from tasks_lib.planning.travel import prompt_of
from tasks_lib.providers.requests import Params
from tasks_lib.queue import Output

if TYPE_CHECKING:
    from tasks_lib.engines.base import EngineResult, Frame, Provenance, Request
    from tasks_lib.engines.bench import Bench

SECOND_PASS = 0.5
"""How much a second, larger pass makes anew where the request does not say."""

PAIR_FRAMES = 81
PAIR_FPS = 16
"""A turbo travel goes from image to image in five seconds."""


def _execute(build: Callable[[Bench, Params], Request]) -> Callable[[Bench], Output]:
    """What executes a type whose row `build` turns into the request for a picture."""

    def execute(bench: Bench) -> Output:
        from tasks_lib.media.images import Picture

        given = Params(bench.params)
        request = build(bench, given)
        result = _second_pass(bench, given, request, bench.run(request))
        picture = Picture(result.image())
        output_format = given.get("output_format") or "png"
        return bench.picture(picture, output_format, provenance=noted(bench, result.provenance, given))

    return execute


def _generate(_: Bench, given: Params) -> Request:
    from tasks_lib.engines.base import GenerateRequest

    width, height = size_of(given["resolution"])
    return GenerateRequest(width=width, height=height, **_words(given))


def _styled(bench: Bench, given: Params) -> Request:
    from tasks_lib.engines.base import EditRequest

    width, height = size_of(given["resolution"])
    references = dict.fromkeys([given["style_reference_image"], given["subject_reference_image"]])
    images = tuple(bench.fetch(reference) for reference in references)
    return EditRequest(images=images, width=width, height=height, **_words(given))


def _edit(bench: Bench, given: Params) -> Request:
    from tasks_lib.engines.base import EditRequest
    from tasks_lib.media.images import probe_image

    images = tuple(bench.fetch(given[name]) for name in ("image_url", "mask_url") if given.get(name))
    facts = probe_image(images[0])
    width, height = size_of(given["resolution"]) if given.get("resolution") else (facts.width, facts.height)
    return EditRequest(images=images, width=width, height=height, **_words(given))


def _inpaint(bench: Bench, given: Params) -> Request:
    from tasks_lib.engines.base import InpaintRequest

    edit: Any = _edit(bench, given)
    image, mask = edit.images
    return InpaintRequest(image=image, mask=mask, width=edit.width, height=edit.height, **_words(given))


def _vary(bench: Bench, given: Params) -> Request:
    from tasks_lib.engines.base import VaryRequest
    from tasks_lib.media.images import probe_image

    image = bench.fetch(given["image_url"])
    facts = probe_image(image)
    scale = (1024 * 1024 / (facts.width * facts.height)) ** 0.5
    width, height = (max(16, round(side * scale / 16) * 16) for side in (facts.width, facts.height))
    return VaryRequest(image=image, strength=given["strength"], width=width, height=height, **_words(given))


make_picture = _execute(_generate)
make_styled_picture = _execute(_styled)
make_edit = _execute(_edit)
make_inpainting = _execute(_inpaint)
make_variation = _execute(_vary)


def make_turbo_travel(bench: Bench) -> Output:
    """From image to image, each pair by a request of its own; the images that two pairs share are shown once."""
    from tasks_lib.engines.base import InbetweenRequest
    from tasks_lib.media.video import write_video

    given = Params(bench.params)
    images = [bench.fetch(reference) for reference in given["image_urls"]]
    pairs = list(zip(images, [*images[1:], None], strict=True))[: max(1, len(images) - 1)]
    width, height = size_of(given["resolution"])
    phases = PhaseConfig.parse(given["phase_config"]) if given.get("phase_config") else None
    made: list[Provenance] = []

    def clips() -> Iterator[Iterator[Frame]]:
        for i, (start, end) in enumerate(pairs):
            negative = (given.get("negative_prompts") or [""] * len(pairs))[i]
            words = _words(given) | {
                "prompt": prompt_of(given, i),
                "negative_prompt": negative or "",
                "seed": given["seed"] + i,
            }
            result = bench.run(
                InbetweenRequest(
                    start,
                    end,
                    frames=PAIR_FRAMES,
                    fps=PAIR_FPS,
                    width=width,
                    height=height,
                    phases=phases,
                    colour_match=bool(given.get("colour_match")),
                    **words,
                )
            )
            made.append(result.provenance)
            frames = result.frames
            if i:
                next(frames)
            yield frames

    path = bench.folder / "film.mp4"
    write_video(path, chain.from_iterable(clips()), PAIR_FPS, lossless=False)
    frames = len(pairs) * (PAIR_FRAMES - 1) + 1
    segments = [provenance.as_dict() for provenance in made]
    return bench.output(path, expect_frames=frames, provenance=noted(bench, made[0], given), segments=segments)


def make_animation(bench: Bench) -> Output:
    """A character that moves like the person in a video, at that video's own rate and shape."""
    from tasks_lib.engines.base import AnimateRequest
    from tasks_lib.media.video import probe, write_video

    given = Params(bench.params)
    video = bench.fetch(given["motion_video_url"])
    facts = probe(video)
    height = int(given["resolution"].removesuffix("p"))
    width = round(height * facts.width / facts.height / 16) * 16
    request = AnimateRequest(
        image=bench.fetch(given["character_image_url"]),
        video=video,
        mode=given["mode"],
        fps=facts.fps,
        width=width,
        height=height,
        **_words(given),
    )
    result = bench.run(request)
    path = bench.folder / "animation.mp4"
    write_video(path, result.frames, facts.fps, lossless=False)
    return bench.output(path, expect_frames=facts.frames, provenance=noted(bench, result.provenance, given))


def noted(bench: Bench, provenance: Provenance, given: Params) -> dict[str, Any]:
    """A provenance as JSON, with a note for everything that the request asked for and nobody looked at."""
    why = "our own engines have no use for it"
    ignored = [note for name in given.unread({"model_name"}) for note in bench.unfollowed(name, why)]
    bench.note(*ignored)
    return replace(provenance, notes=tuple(merged_notes([*provenance.notes, *ignored]))).as_dict()


def _second_pass(bench: Bench, given: Params, request: Request, first: EngineResult) -> EngineResult:
    """The larger picture that `hires_scale` asks for, started from the first one."""
    from tasks_lib.engines.base import PromptedRequest, VaryRequest
    from tasks_lib.media.images import save_png

    hires = given.get("hires_fix") or given
    if not hires.get("hires_scale"):
        return first
    assert isinstance(request, PromptedRequest)
    path = bench.folder / "first_pass.png"
    save_png(path, first.image())
    return bench.run(
        VaryRequest(
            image=path,
            strength=SECOND_PASS if hires.get("hires_denoise") is None else hires["hires_denoise"],
            width=round(request.width * hires["hires_scale"]),
            height=round(request.height * hires["hires_scale"]),
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            seed=request.seed,
            steps=hires.get("hires_steps") or request.steps,
            loras=request.loras,
        )
    )


def _words(given: Params) -> dict[str, Any]:
    """What every request has: words, noise, steps and adapters."""
    first_pass = (given.get("hires_fix") or {}).get("num_inference_steps")
    return {
        "prompt": given.get("prompt") or "",
        "negative_prompt": given.get("negative_prompt") or "",
        "seed": given["seed"],
        "steps": given.get("steps") or first_pass,
        "loras": tuple(Lora.parse(lora) for lora in given.get("loras") or []),
    }
