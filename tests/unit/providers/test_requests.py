"""What task types ask of providers."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tasks_lib.providers.files import check, result_url
from tasks_lib.providers.network import ResultGone
from tasks_lib.providers.requests import BUILDS, works
from tasks_lib.types.base import Preparation
from tasks_lib.types.registry import get_task_type, task_types

IMAGE = "https://example.com/0.jpg"
CLIP = "https://example.com/0.mp4"
PARAMS: dict[str, dict[str, Any]] = {
    "replicate_upscale": {"image_url": IMAGE},
    "magic_edit": {"prompt": "a walk", "image_url": IMAGE},
    "qwen_image": {"prompt": "a walk"},
    "qwen_image_2512": {"prompt": "a walk"},
    "qwen_image_style": {"prompt": "a walk", "style_reference_image": IMAGE},
    "qwen_image_edit": {"prompt": "a walk", "image_url": IMAGE},
    "image_inpaint": {"prompt": "a walk", "image_url": IMAGE, "mask_url": IMAGE},
    "annotated_image_edit": {"prompt": "a walk", "image_url": IMAGE, "mask_url": IMAGE},
    "z_image_turbo": {"prompt": "a walk"},
    "z_image_turbo_i2i": {"image_url": IMAGE},
    "animate_character": {"character_image_url": IMAGE, "motion_video_url": CLIP},
    "wan_2_2_i2v": {"image_urls": [IMAGE], "base_prompts": ["a walk"]},
}


def stored(task_type: str, **params: Any) -> dict[str, Any]:
    """The row's params of a request."""
    declared = get_task_type(task_type)
    given = declared.params.parse({**PARAMS[task_type], **params})
    return declared.prepare(given, Preparation(uuid4(), lambda _: "902x508")).params


def test_every_api_type_is_served_when_it_is_no_orchestrator() -> None:
    api = {t.name for t in task_types().values() if t.run_type == "api" and t.category != "orchestration"}
    assert api <= set(BUILDS)
    assert set(PARAMS) == set(BUILDS)


@pytest.mark.parametrize(("task_type", "provider"), [(t, p) for t, able in BUILDS.items() for p in able])
def test_row_becomes_work_when_a_provider_serves_its_type(task_type: str, provider: str) -> None:
    row = stored(task_type)
    (work,) = works(BUILDS[task_type][provider], row)
    assert work.input
    assert None not in work.input.values()
    (other,) = works(BUILDS[task_type][provider], row, "owner/another")
    assert (other.model, other.input) == ("owner/another", work.input)


def test_adapters_are_passed_on_when_a_picture_has_them() -> None:
    loras = [{"path": "https://example.com/a.safetensors", "strength": 0.5}]
    (work,) = works(BUILDS["z_image_turbo"]["fal"], stored("z_image_turbo", loras=loras))
    assert work.model == "fal-ai/z-image/turbo/lora"
    assert work.input["loras"] == [{"path": "https://example.com/a.safetensors", "scale": 0.5}]


def test_note_says_so_when_the_model_cannot_take_a_parameter() -> None:
    asked = {"prompt": ["prompt"], "hires_scale": ["hires_scale"], "steps": ["steps"]}
    (work,) = works(BUILDS["qwen_image"]["fal"], stored("qwen_image", hires_scale=2.0, steps=51), asked=asked)
    assert work.notes == (
        "`hires_scale` was not followed: the provider's model does not take it",
        "`steps` was not followed: the provider's model takes at most 50",
    )
    (plain,) = works(BUILDS["qwen_image"]["fal"], stored("qwen_image"), asked={"prompt": ["prompt"]})
    assert plain.notes == ()


@pytest.mark.parametrize(
    "output",
    [
        "https://x.example/a",
        ["https://x.example/a", "https://x.example/b"],
        {"images": [{"url": "https://x.example/a"}], "seed": 1},
        {"video": {"url": "https://x.example/a"}},
    ],
)
def test_address_of_the_result_is_found_when_the_answer_has_one(output: Any) -> None:
    assert result_url(output) == "https://x.example/a"


def test_result_is_refused_when_it_is_not_what_it_should_be(tmp_path: Any) -> None:
    with pytest.raises(ResultGone):
        result_url({"text": "no file"})
    page = tmp_path / "result.png"
    page.write_bytes(b"<html>We will be back soon</html>")
    for kind in ("image", "video"):
        with pytest.raises(ResultGone, match="it begins with b'<html>"):
            check(page, kind)
