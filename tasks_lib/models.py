"""The table of models: what weights are where, and what each family of them can make. It knows no torch."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_settings import NoDecode

WEIGHTLESS = frozenset({"inbetween", "upscale", "inpaint"})
"""What the embedded engine makes without a model."""

RIFE = "RIFE"

PIPELINES: dict[str, dict[str, str]] = {
    "WanVACEPipeline": {"inbetween": "WanVACEPipeline"},
    "WanImageToVideoPipeline": {"inbetween": "WanImageToVideoPipeline"},
    "WanPipeline": {"generate": "WanPipeline"},
    "WanAnimatePipeline": {"animate": "WanAnimatePipeline"},
    "QwenImagePipeline": {
        "generate": "QwenImagePipeline",
        "vary": "QwenImageImg2ImgPipeline",
        "inpaint": "QwenImageInpaintPipeline",
    },
    "QwenImageEditPipeline": {"edit": "QwenImageEditPipeline", "inpaint": "QwenImageEditInpaintPipeline"},
    "QwenImageEditPlusPipeline": {"edit": "QwenImageEditPlusPipeline"},
    "ZImagePipeline": {
        "generate": "ZImagePipeline",
        "vary": "ZImageImg2ImgPipeline",
        "inpaint": "ZImageInpaintPipeline",
    },
    "StableDiffusionUpscalePipeline": {"upscale": "StableDiffusionUpscalePipeline"},
    RIFE: {"inbetween": RIFE},
}
"""The pipelines that may be loaded, and for each what it is asked for: the kind of request, and the class of diffusers
that serves it with the same weights. RIFE is none of diffusers', but a network of our own engines."""

SEES_FRAMES = frozenset({"WanVACEPipeline"})
"""The pipelines that are shown a video of frames to keep and frames to follow: those that a guide can steer."""


def _check_pipeline(name: str) -> str:
    if name not in PIPELINES:
        raise ValueError(f"must be one of {', '.join(PIPELINES)}")
    return name


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ModelLora(_Row):
    """An adapter that belongs to a model and is always on."""

    path: str
    """A safetensors file, or a folder that holds one."""

    strength: Annotated[float, Field(ge=0, le=2)] = 1.0
    """1 is what it was trained for."""

    expert: Literal["both", "high", "low"] = "both"
    """Of a pair of models, the one that it is for: that of the high noise, which comes first, or of the low."""


class Model(_Row):
    """One row of the table: weights on this machine, and how they are used where a request does not say."""

    pipeline: Annotated[str, AfterValidator(_check_pipeline)]
    """The class of diffusers, which the folder's `model_index.json` must name too; or RIFE."""

    path: str
    """A folder in the layout of diffusers, with safetensors only; with `allow_download` also an id of the hub. For RIFE
    one file of its weights."""

    allow_download: bool = False
    """Whether `path` may be an id whose files are fetched."""

    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """In which numbers it computes."""

    offload: Literal["none", "model", "sequential"] = "none"
    """Keep all of it on the device, one part at a time, or one layer at a time: less memory, more time."""

    loras: tuple[ModelLora, ...] = ()
    """Adapters that are always on; a task's own come on top of them."""

    steps: Annotated[int, Field(ge=1, le=200)] | None = None
    """Inference steps of a request that says none."""

    guidance: Annotated[float, Field(ge=0, le=30)] | None = None
    """How strictly the prompt is followed; none leaves it to the pipeline."""

    flow_shift: Annotated[float, Field(gt=0, le=100)] | None = None
    """Shift of the noise schedule; none leaves it to the weights."""

    edit_pixels: Annotated[int, Field(ge=64 * 64)] | None = None
    """To so many pixels an edit pipeline brings the pictures that it is shown; none is the million that it was trained
    with. Fewer take less memory and time, and show it less."""

    pose: str | None = None
    """For a WanAnimatePipeline: the folder of a ViTPose model, which reads the motion of the person in the video."""

    depth: str | None = None
    """For a WanVACEPipeline: the folder of a Depth Anything or DPT model, which reads guides of the type `depth`."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """What the digest of its weights must be; `unitask models` prints it."""

    @model_validator(mode="after")
    def _only_what_counts(self) -> Self:
        """RIFE samples nothing, is never fetched, and computes in single precision: its flows are in pixels."""
        if self.pipeline == RIFE and (more := self.model_fields_set - {"pipeline", "path", "sha256"}):
            raise ValueError(f"a row of {RIFE} has `path` and `sha256`, and not {', '.join(sorted(more))}")
        return self

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of request that it serves."""
        return frozenset(PIPELINES[self.pipeline])

    @property
    def sees_frames(self) -> bool:
        """Whether a guide can steer it, and pictures be given anywhere in a clip."""
        return self.pipeline in SEES_FRAMES


def _read_table(value: Any) -> Any:
    """JSON, or the path of a TOML file with a table for each alias."""
    if not isinstance(value, str):
        return value
    if not value.strip() or value.lstrip().startswith("{"):
        return json.loads(value or "{}")
    return tomllib.loads(Path(value).expanduser().read_text())


ModelTable: TypeAlias = Annotated[dict[str, Model], NoDecode, BeforeValidator(_read_table)]
