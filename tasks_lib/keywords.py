"""What each helper takes, for type checkers. `python -m tasks_lib.keywords_writer` writes this file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict
from uuid import UUID

from pydantic import SecretStr

from tasks_lib.creation import Dependency
from tasks_lib.params.image import HiresFix
from tasks_lib.params.joins import OneJoin
from tasks_lib.params.loras import Lora
from tasks_lib.params.pairs import PairMotion
from tasks_lib.params.phases import Phase, PhaseConfig, PhaseLora
from tasks_lib.params.structure import GuideVideo, StructureGuidance
from tasks_lib.task_params import BatchPrompt
from tasks_lib.types.join_clips_orchestrator import Clip


class BatchPromptDict(TypedDict, total=False):
    full_prompt: str
    fullPrompt: str
    short_prompt: str | None
    shortPrompt: str | None
    id: str | None


class ClipDict(TypedDict, total=False):
    url: str
    name: str | None


class DependencyDict(TypedDict, total=False):
    task_id: UUID | str
    policy: Literal["fail", "run_anyway"]


class GuideVideoDict(TypedDict, total=False):
    path: str
    start_frame: int
    end_frame: int | None
    treatment: Literal["adjust", "clip"]
    source_start_frame: int
    source_end_frame: int | None


class HiresFixDict(TypedDict, total=False):
    hires_scale: float | None
    hires_steps: int | None
    hires_denoise: float | None
    lightning_lora_strength_phase_1: float | None
    lightning_lora_strength_phase_2: float | None
    num_inference_steps: int | None


class LoraDict(TypedDict, total=False):
    path: str
    url: str
    strength: float
    scale: float


class OneJoinDict(TypedDict, total=False):
    prompt: str | None
    negative_prompt: str | None
    context_frame_count: int | None
    gap_frame_count: int | None
    replace_mode: bool | None
    model_name: str | None
    model: str | None
    steps: int | None
    num_inference_steps: int | None
    guidance_scale: float | None
    seed: int | None
    loras: Sequence[Lora | LoraDict] | None


class PairMotionDict(TypedDict, total=False):
    amount_of_motion: float | None
    motion_mode: Literal["basic", "presets", "advanced"] | None
    structure_motion_strength: float | None
    structure_treatment: Literal["adjust", "clip"] | None
    uni3c_end_percent: float | None


class PhaseDict(TypedDict, total=False):
    phase: int
    guidance_scale: float
    loras: Sequence[PhaseLora | PhaseLoraDict]


class PhaseConfigDict(TypedDict, total=False):
    num_phases: int
    steps_per_phase: Sequence[int]
    phases: Sequence[Phase | PhaseDict]
    flow_shift: float
    sample_solver: str
    model_switch_phase: int


class PhaseLoraDict(TypedDict, total=False):
    url: str
    multiplier: str


class StructureGuidanceDict(TypedDict, total=False):
    target: Literal["uni3c", "vace"]
    videos: Sequence[GuideVideo | GuideVideoDict]
    strength: float
    step_window: Sequence[float]
    frame_policy: Literal["fit", "clip"]
    zero_empty_frames: bool
    preprocessing: Literal["flow", "canny", "depth", "none"]
    canny_intensity: float
    depth_contrast: float


class HelperKeywords(TypedDict, total=False):
    project_id: UUID | str
    idempotency_key: str | None
    depends_on: Sequence[Dependency | DependencyDict | UUID | str | str]
    priority: int
    token: str | SecretStr | None


class TravelBetweenImagesTask(HelperKeywords, total=False):
    resolution: str | None
    shot_id: UUID | str | None
    parent_generation_id: UUID | str | None
    generation_name: str | None
    loras: Sequence[Lora | LoraDict]
    model_name: str | None
    seed: int
    random_seed: bool
    model_type: Literal["i2v", "vace"] | None
    steps: int
    phase_config: PhaseConfig | PhaseConfigDict | None
    amount_of_motion: float
    motion_mode: Literal["basic", "presets", "advanced"]
    pair_phase_configs: Sequence[PhaseConfig | PhaseConfigDict | None]
    pair_loras: Sequence[Sequence[Lora | LoraDict] | None]
    pair_motion_settings: Sequence[PairMotion | PairMotionDict | None]
    advanced_mode: bool
    selected_phase_preset_id: str | None
    debug: bool
    use_svi: Literal[False]
    colour_match: bool
    after_first_post_generation_saturation: float
    after_first_post_generation_brightness: float
    structure_video_path: str | None
    structure_video_treatment: Literal["adjust", "clip"]
    structure_video_motion_strength: float
    structure_video_type: Literal["flow", "canny", "depth"]
    structure_guidance: StructureGuidance | StructureGuidanceDict | None
    base_prompt: str
    text_before_prompts: str
    text_after_prompts: str
    enhance_prompt: bool
    image_urls: Sequence[str]
    base_prompts: Sequence[str]
    segment_frames: Sequence[int] | int
    frame_overlap: Sequence[int] | int
    negative_prompts: Sequence[str]
    enhanced_prompts: Sequence[str]
    independent_segments: bool
    image_generation_ids: Sequence[UUID | str]
    pair_shot_generation_ids: Sequence[UUID | str]
    generation_mode: Literal["batch", "timeline"]
    dimension_source: Literal["project", "firstImage", "custom"]
    regenerate_anchors: Literal[False]
    show_input_images: Literal[False]
    turbo_mode: bool


class ImageGenerationTask(HelperKeywords, total=False):
    shot_id: UUID | str | None
    loras: Sequence[Lora | LoraDict]
    seed: int
    random_seed: bool
    model_name: str | None
    resolution: str | None
    resolution_scale: float
    resolution_mode: Literal["project", "custom"]
    custom_aspect_ratio: Literal["21:9", "16:9", "4:3", "3:2", "1:1", "Square", "2:3", "3:4", "9:16", "9:21"] | None
    negative_prompt: str
    steps: int
    prompt: str
    hires_scale: float | None
    hires_steps: int | None
    hires_denoise: float | None
    lightning_lora_strength_phase_1: float | None
    lightning_lora_strength_phase_2: float | None
    style_reference_image: str | None
    subject_reference_image: str | None
    reference_mode: Literal["style", "subject", "style-character", "scene", "custom"]
    style_reference_strength: float | None
    subject_strength: float | None
    subject_description: str
    in_this_scene: bool | None
    in_this_scene_strength: float | None


class BatchImageGenerationTask(HelperKeywords, total=False):
    shot_id: UUID | str | None
    loras: Sequence[Lora | LoraDict]
    seed: int | None
    random_seed: bool
    model_name: str | None
    resolution: str | None
    resolution_scale: float
    resolution_mode: Literal["project", "custom"]
    custom_aspect_ratio: Literal["21:9", "16:9", "4:3", "3:2", "1:1", "Square", "2:3", "3:4", "9:16", "9:21"] | None
    negative_prompt: str
    steps: int
    hires_scale: float | None
    hires_steps: int | None
    hires_denoise: float | None
    lightning_lora_strength_phase_1: float | None
    lightning_lora_strength_phase_2: float | None
    style_reference_image: str | None
    subject_reference_image: str | None
    reference_mode: Literal["style", "subject", "style-character", "scene", "custom"]
    style_reference_strength: float | None
    subject_strength: float | None
    subject_description: str
    in_this_scene: bool | None
    in_this_scene_strength: float | None
    prompts: Sequence[BatchPrompt | BatchPromptDict | str]
    images_per_prompt: int
    imagesPerPrompt: int
    seed_mode: Literal["random", "fixed", "increment"] | None


class MagicEditTask(HelperKeywords, total=False):
    shot_id: UUID | str | None
    based_on: UUID | str | None
    generation_id: UUID | str | None
    source_variant_id: UUID | str | None
    create_as_generation: bool
    tool_type: str | None
    loras: Sequence[Lora | LoraDict]
    model_name: str | None
    seed: int | None
    resolution: str | None
    prompt: str
    negative_prompt: str
    qwen_edit_model: Literal["qwen-edit", "qwen-edit-2509", "qwen-edit-2511"]
    hires_fix: HiresFix | HiresFixDict | None
    image_url: str
    image: str
    in_scene: bool
    output_format: Literal["jpeg", "png", "webp"]
    max_wait_seconds: int
    enable_sync_mode: Literal[False]
    enable_base64_output: Literal[False]
    num_images: int
    numImages: int


class ImageInpaintTask(HelperKeywords, total=False):
    shot_id: UUID | str | None
    based_on: UUID | str | None
    generation_id: UUID | str | None
    source_variant_id: UUID | str | None
    create_as_generation: bool
    tool_type: str | None
    loras: Sequence[Lora | LoraDict]
    model_name: str | None
    seed: int | None
    resolution: str | None
    prompt: str
    negative_prompt: str
    qwen_edit_model: Literal["qwen-edit", "qwen-edit-2509", "qwen-edit-2511"]
    hires_fix: HiresFix | HiresFixDict | None
    image_url: str
    mask_url: str
    num_generations: int


class AnnotatedImageEditTask(ImageInpaintTask):
    pass


class ImageUpscaleTask(HelperKeywords, total=False):
    shot_id: UUID | str | None
    model_name: str | None
    image_url: str
    image: str
    generation_id: UUID | str | None
    scale_factor: float
    output_format: Literal["jpeg", "png", "webp"]


class ReplicateUpscaleTask(ImageUpscaleTask):
    pass


class CharacterAnimateTask(HelperKeywords, total=False):
    shot_id: UUID | str | None
    model_name: str | None
    seed: int
    random_seed: bool
    character_image_url: str
    motion_video_url: str
    mode: Literal["animate", "replace"]
    resolution: Literal["480p", "720p"]
    prompt: str


class JoinClipsTask(HelperKeywords, total=False):
    resolution: str | None
    shot_id: UUID | str | None
    parent_generation_id: UUID | str | None
    generation_name: str | None
    advanced_mode: bool
    selected_phase_preset_id: str | None
    debug: bool
    use_svi: Literal[False]
    loras: Sequence[Lora | LoraDict]
    colour_match: bool
    prompt: str
    negative_prompt: str
    context_frame_count: int
    gap_frame_count: int
    replace_mode: bool
    keep_bridging_images: bool
    vid2vid_init_strength: float | None
    model_name: str | None
    model: str | None
    steps: int
    num_inference_steps: int
    guidance_scale: float
    phase_config: PhaseConfig | PhaseConfigDict | None
    seed: int
    clips: Sequence[Clip | ClipDict | str]
    loop: bool
    loop_first_clip: bool
    audio_url: str | None
    per_join_settings: Sequence[OneJoin | OneJoinDict]
    enhance_prompt: bool
    fps: float | None
    use_input_video_resolution: bool
    use_input_video_fps: bool
    motion_mode: Literal["basic", "advanced"]
    tool_type: Literal["join-clips", "travel-between-images"]


class IndividualTravelSegmentTask(HelperKeywords, total=False):
    resolution: str | None
    shot_id: UUID | str | None
    loras: Sequence[Lora | LoraDict]
    model_name: str | None
    seed: int
    random_seed: bool
    model_type: Literal["i2v", "vace"] | None
    steps: int
    phase_config: PhaseConfig | PhaseConfigDict | None
    amount_of_motion: float
    motion_mode: Literal["basic", "presets", "advanced"]
    advanced_mode: bool
    selected_phase_preset_id: str | None
    debug: bool
    use_svi: Literal[False]
    colour_match: bool
    after_first_post_generation_saturation: float
    after_first_post_generation_brightness: float
    structure_video_path: str | None
    structure_video_treatment: Literal["adjust", "clip"]
    structure_video_motion_strength: float
    structure_video_type: Literal["flow", "canny", "depth"]
    structure_guidance: StructureGuidance | StructureGuidanceDict | None
    film_start: int
    film_frames: int | None
    parent_generation_id: UUID | str | None
    child_generation_id: UUID | str | None
    segment_index: int
    start_image_url: str
    end_image_url: str | None
    start_image_generation_id: UUID | str | None
    end_image_generation_id: UUID | str | None
    pair_shot_generation_id: UUID | str | None
    base_prompt: str
    enhanced_prompt: str
    negative_prompt: str
    num_frames: int
    generation_name: str | None
    make_primary_variant: bool
