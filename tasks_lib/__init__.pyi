"""What callers use, and where each name lives. `__init__.py` reads this list; the names load when they are used."""

from ._version import (
    __version__ as __version__,
)
from .availability import (
    TypeFacts as TypeFacts,
    list_task_types as list_task_types,
)
from .client import (
    Task as Task,
    cancel_batch as cancel_batch,
    cancel_task as cancel_task,
    get_task as get_task,
    list_dead_letters as list_dead_letters,
    list_tasks as list_tasks,
    retry_task as retry_task,
    upload_media as upload_media,
)
from .batches import (
    BatchReport as BatchReport,
)
from .creation import (
    Dependency as Dependency,
    TaskCreated as TaskCreated,
    TaskRequest as TaskRequest,
    create_task as create_task,
    create_tasks as create_tasks,
    expand_array_to_count as expand_array_to_count,
    generate_run_id as generate_run_id,
    generate_task_id as generate_task_id,
    quote as quote,
    validate_required_fields as validate_required_fields,
)
from .events import (
    Event as Event,
)
from .helpers import (
    create_annotated_image_edit_task as create_annotated_image_edit_task,
    create_batch_image_generation_tasks as create_batch_image_generation_tasks,
    create_character_animate_task as create_character_animate_task,
    create_image_generation_task as create_image_generation_task,
    create_image_inpaint_task as create_image_inpaint_task,
    create_image_upscale_task as create_image_upscale_task,
    create_individual_travel_segment_task as create_individual_travel_segment_task,
    create_join_clips_task as create_join_clips_task,
    create_magic_edit_task as create_magic_edit_task,
    create_replicate_upscale_task as create_replicate_upscale_task,
    create_travel_between_images_task as create_travel_between_images_task,
)
from .outcomes import (
    TaskOutcome as TaskOutcome,
)
from .projects import (
    Project as Project,
    Shot as Shot,
    create_project as create_project,
    create_shot as create_shot,
    list_projects as list_projects,
    list_shots as list_shots,
    set_project as set_project,
    set_shot as set_shot,
)
from .resolution import (
    resolve_project_resolution as resolve_project_resolution,
)
from .results import (
    Batch as Batch,
    Step as Step,
    TaskTree as TaskTree,
    get_batch as get_batch,
    get_history as get_history,
    get_tree as get_tree,
    media_url as media_url,
)
from .task_params import (
    AnnotatedImageEditTaskParams as AnnotatedImageEditTaskParams,
    BaseTaskParams as BaseTaskParams,
    BatchImageGenerationTaskParams as BatchImageGenerationTaskParams,
    BatchPrompt as BatchPrompt,
    CharacterAnimateTaskParams as CharacterAnimateTaskParams,
    DEFAULT_VIDEO_STRUCTURE_PARAMS as DEFAULT_VIDEO_STRUCTURE_PARAMS,
    ImageGenerationTaskParams as ImageGenerationTaskParams,
    ImageInpaintTaskParams as ImageInpaintTaskParams,
    ImageUpscaleTaskParams as ImageUpscaleTaskParams,
    IndividualTravelSegmentTaskParams as IndividualTravelSegmentTaskParams,
    JoinClipsTaskParams as JoinClipsTaskParams,
    MagicEditTaskParams as MagicEditTaskParams,
    ReplicateUpscaleTaskParams as ReplicateUpscaleTaskParams,
    TravelBetweenImagesTaskParams as TravelBetweenImagesTaskParams,
    VideoModelApiParams as VideoModelApiParams,
    VideoMotionApiParams as VideoMotionApiParams,
    VideoStructureApiParams as VideoStructureApiParams,
)
from .templates import (
    create_task_from_template as create_task_from_template,
    create_template as create_template,
    delete_template as delete_template,
    get_template as get_template,
    list_templates as list_templates,
)
from .watch import (
    last_event_id as last_event_id,
    wait_for_task as wait_for_task,
    watch_project as watch_project,
    watch_project_async as watch_project_async,
    watch_task as watch_task,
    watch_task_async as watch_task_async,
)

__all__: list[str]
