"""What each task type asks of each provider that can serve it: from a row's stored params to inputs of models, pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tasks_lib.params.asked import not_followed
from tasks_lib.params.base import size_of
from tasks_lib.planning.travel import prompt_of
from tasks_lib.providers.base import Work

Build = Callable[["Params"], list[Work]]

# Where the result belongs and how it is prepared: nothing that a model would take.
OUR_OWN = {
    *("shot_id", "based_on", "generation_id", "source_variant_id", "create_as_generation", "tool_type"),
    *("resolution_scale", "resolution_mode", "custom_aspect_ratio", "num_images", "image_size"),
    *("turbo_mode", "generation_name", "parent_generation_id"),
    *("generation_mode", "dimension_source", "image_generation_ids"),
}


class Params(Mapping[str, Any]):
    """Stored params that know which of them were read, so that what a model cannot take is said and not lost."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._read: set[str] = set()
        self.changed: dict[str, str] = {}
        """What is passed on otherwise than it was asked for, with the reason."""

    def __getitem__(self, name: str) -> Any:
        self._read.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def unread(self, besides: Collection[str] = ()) -> list[str]:
        """What was never looked at, `besides` what others look at."""
        return sorted(self._values.keys() - self._read - OUR_OWN - {*besides})

    def change(self, name: str, value: Any, why: str) -> Any:
        """A value, or the nearest that a model takes; then the result says so."""
        if value != self[name]:
            self.changed[name] = why
        return value


def works(
    build: Build, params: Mapping[str, Any], model: str | None = None, asked: Mapping[str, Sequence[str]] | None = None
) -> list[Work]:
    """The jobs that make a task's result, in order; `model` takes the place of the builder's own.

    Of the parameters that were `asked` for (by default all), those that the model does not take are in the notes.
    """
    given = Params(params)
    made = build(given)
    fields = {name: [name] for name in params} if asked is None else asked
    ignored = dict.fromkeys(given.unread({"max_wait_seconds"}), "the provider's model does not take it") | given.changed
    notes = tuple(note for name, why in ignored.items() for note in not_followed(fields.get(name, ()), why))
    return [
        Work(model or work.model, {name: value for name, value in work.input.items() if value is not None}, notes=notes)
        for work in made
    ]


def _size(params: Params) -> dict[str, int]:
    width, height = size_of(params["resolution"])
    return {"width": width, "height": height}


def _loras(params: Params) -> list[dict[str, Any]] | None:
    return [{"path": lora["path"], "scale": lora["strength"]} for lora in params.get("loras") or []] or None


def _picture(model: str, *, most_steps: int = 50) -> Build:
    def build(params: Params) -> list[Work]:
        given = {
            "prompt": params["prompt"],
            "negative_prompt": params.get("negative_prompt") or None,
            "image_size": _size(params),
            "num_inference_steps": _steps(params, most_steps),
            "seed": params["seed"],
            "loras": _loras(params),
            "num_images": 1,
            "output_format": "png",
        }
        return [Work(model, given)]

    return build


def _steps(params: Params, most: int) -> int:
    return int(params.change("steps", min(params["steps"], most), f"the provider's model takes at most {most}"))


def _z_image(params: Params) -> list[Work]:
    (work,) = _picture("fal-ai/z-image/turbo", most_steps=8)(params)
    return [replace(work, model=_with_lora(work.model, work.input))]


def _z_image_to_image(params: Params) -> list[Work]:
    taken = ["image_url", "prompt", "strength", "seed", "output_format", "acceleration", "image_size"]
    taken += ["enable_prompt_expansion", "enable_safety_checker"]
    given = {name: params[name] for name in taken}
    given |= {"num_inference_steps": _steps(params, 8), "loras": _loras(params), "num_images": 1}
    return [Work(_with_lora("fal-ai/z-image/turbo/image-to-image", given), given)]


def _with_lora(model: str, given: Mapping[str, Any]) -> str:
    return f"{model}/lora" if given.get("loras") else model


def _style(params: Params) -> list[Work]:
    pictures = list(dict.fromkeys([params["style_reference_image"], params["subject_reference_image"]]))
    given = {
        "prompt": params["prompt"],
        "negative_prompt": params.get("negative_prompt") or None,
        "image_urls": pictures,
        "image_size": _size(params),
        "num_inference_steps": params["steps"],
        "seed": params["seed"],
        "num_images": 1,
        "output_format": "png",
    }
    return [Work("fal-ai/qwen-image-edit-plus", given)]


def _edit(model: str, *, pictures: Callable[[Params], dict[str, Any]]) -> Build:
    def build(params: Params) -> list[Work]:
        given = {
            "prompt": params["prompt"],
            "negative_prompt": params.get("negative_prompt") or None,
            **pictures(params),
            "image_size": _size(params) if params.get("resolution") else None,
            "seed": params["seed"],
            "num_images": 1,
            "output_format": params.get("output_format") or "png",
        }
        return [Work(model, given)]

    return build


def _png_or(params: Params, jpeg: str) -> str:
    given = "png" if params["output_format"] == "png" else "jpeg"
    params.change("output_format", given, "the provider's model makes jpeg and png alone")
    return "png" if given == "png" else jpeg


def _kontext_at_fal(params: Params) -> list[Work]:
    given = {
        "prompt": params["prompt"],
        "image_url": params["image_url"],
        "seed": params["seed"],
        "num_images": 1,
        "output_format": _png_or(params, "jpeg"),
    }
    return [Work("fal-ai/flux-pro/kontext", given)]


def _kontext_at_replicate(params: Params) -> list[Work]:
    given = {
        "prompt": params["prompt"],
        "input_image": params["image_url"],
        "seed": params["seed"],
        "output_format": _png_or(params, "jpg"),
    }
    return [Work("black-forest-labs/flux-kontext-pro", given)]


def _upscale_at_replicate(params: Params) -> list[Work]:
    version = "f121d640bd286e1fdc67f9799164c1d5be36ff74576ee11c803ae5b665dd46aa"
    return [Work(f"nightmareai/real-esrgan:{version}", {"image": params["image_url"], "scale": params["scale_factor"]})]


def _upscale_at_fal(params: Params) -> list[Work]:
    given = {"image_url": params["image_url"], "upscale_factor": params["scale_factor"]}
    given["output_format"] = {"jpeg": "jpg"}.get(params["output_format"], params["output_format"])
    return [Work("fal-ai/seedvr/upscale/image", given)]


def _animate(params: Params) -> list[Work]:
    given = {
        "image_url": params["character_image_url"],
        "video_url": params["motion_video_url"],
        "resolution": params["resolution"],
        "seed": params["seed"],
    }
    way = {"animate": "move", "replace": "replace"}[params["mode"]]
    return [Work(f"fal-ai/wan/v2.2-14b/animate/{way}", given)]


def _turbo_travel(params: Params) -> list[Work]:
    """A job for each pair of neighbours; one image is a journey without an end."""
    images = params["image_urls"]
    size = "720p" if min(size_of(params["resolution"])) >= 600 else "480p"
    params.change("resolution", size, f"the provider's model makes {size} in the shape of the images")
    made = []
    for i, image in enumerate(images[:-1] or images):
        given = {
            "image_url": image,
            "end_image_url": images[i + 1] if i + 1 < len(images) else None,
            "prompt": prompt_of(params, i),
            "negative_prompt": params["negative_prompts"][i] or None,
            "seed": params["seed"] + i,
            "resolution": size,
        }
        made.append(Work("fal-ai/wan/v2.2-a14b/image-to-video", given))
    return made


def _one(params: Params) -> dict[str, Any]:
    return {"image_url": params["image_url"]}


def _masked(params: Params) -> dict[str, Any]:
    return {"image_url": params["image_url"], "mask_url": params["mask_url"]}


def _both(params: Params) -> dict[str, Any]:
    return {"image_urls": [params["image_url"], params["mask_url"]]}


BUILDS: dict[str, dict[str, Build]] = {
    "replicate_upscale": {"replicate": _upscale_at_replicate, "fal": _upscale_at_fal},
    "magic_edit": {"replicate": _kontext_at_replicate, "fal": _kontext_at_fal},
    "qwen_image": {"fal": _picture("fal-ai/qwen-image")},
    "qwen_image_2512": {"fal": _picture("fal-ai/qwen-image-2512")},
    "qwen_image_style": {"fal": _style},
    "qwen_image_edit": {"fal": _edit("fal-ai/qwen-image-edit", pictures=_one)},
    "image_inpaint": {"fal": _edit("fal-ai/qwen-image-edit/inpaint", pictures=_masked)},
    "annotated_image_edit": {"fal": _edit("fal-ai/qwen-image-edit-plus", pictures=_both)},
    "z_image_turbo": {"fal": _z_image},
    "z_image_turbo_i2i": {"fal": _z_image_to_image},
    "animate_character": {"fal": _animate},
    "wan_2_2_i2v": {"fal": _turbo_travel},
}
"""By task type, the providers that can serve it; the first is the default."""
