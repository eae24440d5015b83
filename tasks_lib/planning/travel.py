"""The children of a travel: one segment for each pair of images, and the stitch that joins them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks_lib.planning.children import Child
from tasks_lib.planning.timeline import Timeline

STITCH = "stitch"


def segment_key(index: int) -> str:
    """The child key of a segment, and its place in every list."""
    return f"segment_{index:03d}"


def plan_travel(params: dict[str, Any], placement: dict[str, Any] | None) -> list[Child]:
    """From an orchestrator's stored params to its children, in the order of their dependencies."""
    details = params["orchestrator_details"]
    timeline = Timeline.model_validate(params["timeline"])
    chained = not details["independent_segments"]
    generation_id = (placement or {}).get("generation_id")
    images = details["image_urls"]

    children = []
    for segment in timeline.segments:
        i = segment.index
        place: dict[str, Any] = {
            "as": "child",
            "parent_generation_id": generation_id,
            "child_order": i,
            "type": "video",
            # Beside what is there: a person may have chosen it.
            "variant_type": "travel_segment",
            "primary": False,
        }
        if details["pair_shot_generation_ids"]:
            place["pair_shot_generation_id"] = details["pair_shot_generation_ids"][i]
        children.append(
            Child(
                key=segment_key(i),
                task_type="travel_segment",
                params={
                    "segment_index": i,
                    "start_image": images[i],
                    "end_image": images[i + 1] if i + 1 < len(images) else None,
                    "frames": segment.frames,
                    "film_start": segment.start,
                    "film_frames": timeline.total_frames,
                    "overlap_before": segment.overlap_before,
                    "continues": chained and i > 0,
                    "prompt": prompt_of(details, i),
                    "negative_prompt": details["negative_prompts"][i],
                    "resolution": details["resolution"],
                    "fps": timeline.fps,
                    **{name: details[name] for name in _SHARED},
                    **_overrides(details, i),
                },
                after=[segment_key(i - 1)] if chained and i else [],
                placement=place if generation_id else None,
                model=details["model_name"],
                sources=_sources(details, i),
            )
        )
    children.append(
        Child(
            key=STITCH,
            task_type="travel_stitch",
            params={
                "segments": len(timeline.segments),
                "overlaps": [segment.overlap_before for segment in timeline.segments[1:]],
                "independent_segments": details["independent_segments"],
                "fps": timeline.fps,
                "total_frames": timeline.total_frames,
                "keyframes": timeline.keyframes,
            },
            after=[child.key for child in children],
            placement={
                "as": "variant",
                "generation_id": generation_id,
                "variant_type": "travel_stitch",
                "primary": True,
            }
            if generation_id
            else None,
        )
    )
    return children


# What every segment takes over from the travel as it is.
_SHARED = (
    "seed",
    "model_name",
    "model_type",
    "steps",
    "phase_config",
    "loras",
    "amount_of_motion",
    "structure_video_path",
    "structure_video_treatment",
    "structure_video_motion_strength",
    "structure_video_type",
    "structure_guidance",
    "colour_match",
    "after_first_post_generation_saturation",
    "after_first_post_generation_brightness",
)


# The fields of a request from which a segment's prompt is made.
PROMPTS = ("base_prompts", "enhanced_prompts", "base_prompt", "text_before_prompts", "text_after_prompts")


def _sources(details: dict[str, Any], i: int) -> dict[str, Sequence[str]]:
    """From which fields of the travel's request each parameter of segment i comes, where they have other names."""
    own = {"phase_config": "pair_phase_configs", "loras": "pair_loras"}
    return {
        "start_image": [f"image_urls[{i}]"],
        "end_image": [f"image_urls[{i + 1}]"],
        "prompt": PROMPTS,
        "negative_prompt": [f"negative_prompts[{i}]"],
        "frames": ["segment_frames"],
        "overlap_before": ["frame_overlap"],
        "continues": ["independent_segments"],
        "seed": ["seed", "random_seed"],
        **{name: [f"{field}[{i}]"] for name, field in own.items() if details[field] and details[field][i] is not None},
    }


def _overrides(details: dict[str, Any], i: int) -> dict[str, Any]:
    """What the request says about segment i alone; a null there keeps what it says about all."""
    own = {}
    for name, of_pairs in (("phase_config", "pair_phase_configs"), ("loras", "pair_loras")):
        if details[of_pairs] and details[of_pairs][i] is not None:
            own[name] = details[of_pairs][i]
    motion = (details["pair_motion_settings"] or [None] * (i + 1))[i] or {}
    if motion.get("amount_of_motion") is not None:
        own["amount_of_motion"] = motion["amount_of_motion"]
    return own | _guide(details, motion)


def _guide(details: dict[str, Any], motion: dict[str, Any]) -> dict[str, Any]:
    """The guide of one segment: the travel's, with the segment's own strength, fit and end."""
    strength, treatment = motion.get("structure_motion_strength"), motion.get("structure_treatment")
    end = motion.get("uni3c_end_percent")
    guidance = details["structure_guidance"]
    if guidance is None:
        own = {"structure_video_motion_strength": strength, "structure_video_treatment": treatment}
        return {name: value for name, value in own.items() if value is not None}
    guidance = dict(guidance)
    if strength is not None:
        guidance["strength"] = strength
    if treatment is not None:
        guidance["videos"] = [{**video, "treatment": treatment} for video in guidance["videos"]]
    if end is not None:
        guidance["step_window"] = [min(guidance["step_window"][0], end), end]
    return {"structure_guidance": guidance}


def prompt_of(details: Mapping[str, Any], i: int) -> str:
    """The prompt of segment i of a journey, from its stored details."""
    own = details["enhanced_prompts"][i] or details["base_prompts"][i] or details["base_prompt"]
    return " ".join(text for text in (details["text_before_prompts"], own, details["text_after_prompts"]) if text)
