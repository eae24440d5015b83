"""Shared parameter groups: what is settled at creation, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from tasks_lib.errors import TaskValidationError
from tasks_lib.params.base import ParamGroup, Resolution
from tasks_lib.params.image import ReferenceParams
from tasks_lib.params.joins import JoinSettings
from tasks_lib.params.loras import Lora
from tasks_lib.params.model import SeedParams
from tasks_lib.params.resolution import ScaledResolutionParams
from tasks_lib.params.structure import GuidedPartParams, GuideVideo, StructureGuidance, StructureGuidanceParams
from tasks_lib.types.registry import task_types

STYLE = "https://example.com/style.jpg"
GUIDE = {"path": "https://example.com/guide.mp4"}


class Sized(ParamGroup):
    resolution: Resolution


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({}, "902x508"),
        ({"resolution_scale": 1.5}, "1352x762"),
        ({"resolution_scale": 1.5, "resolution": "640x480"}, "640x480"),
        ({"resolution_mode": "custom", "custom_aspect_ratio": "9:21", "resolution_scale": 2}, "876x2048"),
        ({"custom_aspect_ratio": "9:21"}, "902x508"),
    ],
)
def test_size_follows_ratio_and_scale_when_none_is_given(given: dict[str, Any], size: str) -> None:
    assert ScaledResolutionParams.parse(given).settled_resolution("902x508") == size


@pytest.mark.parametrize(
    ("value", "size"),
    [("902x508", "902x508"), ([902, 508], "902x508"), ([902.0, 508], None), ("903x508", None), ("custom", None)],
)
def test_size_is_taken_as_text_or_pair_when_it_can_be_encoded(value: Any, size: str | None) -> None:
    if size is None:
        with pytest.raises(TaskValidationError) as refused:
            Sized.parse({"resolution": value})
        assert refused.value.field == "resolution"
    else:
        assert Sized.parse({"resolution": value}).resolution == size


@pytest.mark.parametrize(
    ("mode", "given", "settled"),
    [
        ("style", {}, (1.0, 0.0, False, 0.0)),
        ("subject", {}, (1.1, 0.5, False, 0.0)),
        ("subject", {"subject_strength": 0.9}, (1.1, 0.9, False, 0.0)),
        ("subject", {"subject_strength": 0.0}, (1.1, 0.0, False, 0.0)),
        ("scene", {}, (1.1, 0.0, True, 0.5)),
        ("scene", {"in_this_scene_strength": 0.8}, (1.1, 0.0, True, 0.8)),
        ("custom", {"style_reference_strength": 0.2}, (0.2, 0.0, False, 0.0)),
    ],
)
def test_mode_decides_only_what_is_unset_when_a_reference_is_given(
    mode: str, given: dict[str, Any], settled: tuple[Any, ...]
) -> None:
    params = ReferenceParams.parse({"style_reference_image": STYLE, "reference_mode": mode, **given})
    names = ("style_reference_strength", "subject_strength", "in_this_scene", "in_this_scene_strength")
    row = {**params.model_dump(exclude_none=True), **params.settled_references()}
    assert tuple(row[name] for name in names) == settled
    assert row["subject_reference_image"] == STYLE


def test_seed_is_drawn_only_when_it_is_asked_for() -> None:
    assert SeedParams.parse({"seed": 0}).settled_seed() == 0
    drawn = {SeedParams.parse({"random_seed": True}).settled_seed() for _ in range(20)}
    assert len(drawn) > 1
    assert all(0 <= seed < 1_000_000 for seed in drawn)


def test_adapters_have_one_shape_when_older_names_are_sent() -> None:
    assert Lora.parse({"url": "a", "scale": 0.5}) == Lora.parse({"path": "a", "strength": 0.5})
    with pytest.raises(TaskValidationError):
        Lora.parse({"url": "a", "path": "b"})


@pytest.mark.parametrize(
    ("model", "given", "field"),
    [
        (GuideVideo, {**GUIDE, "start_frame": 5, "end_frame": 5}, "params"),
        (StructureGuidance, {"target": "vace", "videos": []}, "videos"),
        (StructureGuidance, {"target": "vace", "videos": [GUIDE], "step_window": [0.5, 0.1]}, "params"),
        (StructureGuidance, {"target": "vace", "videos": [{**GUIDE, "start_frame": 9}, GUIDE]}, "params"),
        (
            StructureGuidance,
            {"target": "vace", "videos": [{**GUIDE, "start_frame": 5}, {**GUIDE, "end_frame": 6}]},
            "params",
        ),
        (GuidedPartParams, {"film_start": 9, "film_frames": 9}, "params"),
        (
            StructureGuidanceParams,
            {"structure_video_path": GUIDE["path"], "structure_guidance": {"target": "vace", "videos": [GUIDE]}},
            "params",
        ),
    ],
)
def test_guide_is_refused_when_it_contradicts_itself(
    model: type[ParamGroup], given: dict[str, Any], field: str
) -> None:
    with pytest.raises(TaskValidationError) as refused:
        model.parse(given)
    assert refused.value.field == field


def test_guide_is_the_same_when_it_comes_in_either_form() -> None:
    single = {
        "structure_video_path": GUIDE["path"],
        "structure_video_treatment": "clip",
        "structure_video_type": "canny",
    }
    videos = [{**GUIDE, "treatment": "clip"}]
    several = {"structure_guidance": {"target": "vace", "videos": videos, "preprocessing": "canny"}}
    assert StructureGuidanceParams.parse(single).guidance() == StructureGuidanceParams.parse(several).guidance()
    assert StructureGuidanceParams.parse({}).guidance() is None
    in_turns = [{**GUIDE, "start_frame": 5}, {**GUIDE, "end_frame": 5}]
    assert len(StructureGuidance.parse({"target": "vace", "videos": in_turns}).videos) == 2


@pytest.mark.parametrize("strength", [0.4, 0.99])
def test_start_from_frames_is_refused_when_it_is_more_than_a_default(strength: float) -> None:
    assert JoinSettings.parse({"vid2vid_init_strength": 1}).vid2vid_init_strength == 1
    with pytest.raises(TaskValidationError, match="no pipeline here starts from the frames of a clip") as refused:
        JoinSettings.parse({"vid2vid_init_strength": strength})
    assert refused.value.field == "vid2vid_init_strength"


URL = "https://example.com/1.jpg"
TRAVEL = "travel_orchestrator"
JOURNEY: dict[str, Any] = {"image_urls": [URL], "base_prompts": ["a walk"]}


@pytest.mark.parametrize(
    ("task_type", "given", "field", "text"),
    [
        (TRAVEL, JOURNEY | {"structure_vide": 9}, "structure_vide", "did you mean `structure_video_path`?"),
        (TRAVEL, JOURNEY | {"segment_frame": 9}, "segment_frame", "did you mean `segment_frames`?"),
        (
            "travel_orchestrator",
            JOURNEY | {"loras": [{"path": "a", "strenght": 1}]},
            "loras[0].strenght",
            "`strength`?",
        ),
        (
            "travel_orchestrator",
            JOURNEY | {"pair_loras": [[{"path": "a", "weigth": 1}]]},
            "pair_loras[0][0].weigth",
            "",
        ),
        (TRAVEL, JOURNEY | {"segment_frames": ["x"]}, "segment_frames[0]", "valid integer"),
        (TRAVEL, JOURNEY | {"segment_frames": "x"}, "segment_frames", "valid list, or Input"),
        (TRAVEL, JOURNEY | {"additional_loras": {}}, "additional_loras", "send them as `loras:"),
        ("qwen_image", {"prompt": "a", "reference_mode": "style"}, "reference_mode", "`qwen_image_style` tasks"),
        ("single_image", {"prompt": "a", "reference_mode": "style"}, "reference_mode", "takes a reference"),
        ("single_image", {"prompt": "a", "project_id": "x"}, "project_id", "beside the parameters"),
        ("z_image_turbo_i2i", {"image": URL}, "image_url", "Field required"),
        ("image_upscale", {"image": 5}, "image", "valid string"),
    ],
)
def test_place_and_remedy_are_named_when_a_key_or_value_is_wrong_at_any_depth(
    task_type: str, given: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(TaskValidationError) as refused:
        task_types()[task_type].params.parse(given)
    assert refused.value.field == field
    assert text in str(refused.value)


def groups_of(model: type[BaseModel]) -> set[type[BaseModel]]:
    """A model, what it inherits from, and what is nested in it."""
    found: set[type[BaseModel]] = set()
    for info in model.model_fields.values():
        for nested in models_in(info.annotation):
            found |= groups_of(nested)
    return found | {base for base in model.__mro__ if issubclass(base, ParamGroup)}


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def test_page_explains_every_name_that_is_refused_on_purpose() -> None:
    page = (Path(__file__).parents[3] / "docs" / "adding-a-task-type.md").read_text()
    groups = {group for declared in task_types().values() for group in groups_of(declared.params)}
    refused = {name for group in groups for name in vars(group).get("REFUSED", {})}
    assert len(refused) > 30
    assert {name for name in refused if f"`{name}`" not in page} == set()


def test_zero_switches_off_when_an_older_client_starts_a_bridge_from_nothing() -> None:
    assert JoinSettings.parse({"vid2vid_init_strength": 0}).vid2vid_init_strength is None


def test_part_of_a_request_is_checked_when_the_rest_is_to_come() -> None:
    GuideVideo.check_some({})
    with pytest.raises(TaskValidationError) as refused:
        StructureGuidance.check_some({"videos": [{}]})
    assert refused.value.field == "videos[0].path"
