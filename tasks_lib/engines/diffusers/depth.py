"""How far away everything in a frame is, by Depth Anything or DPT: near is white."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import transformers
from safetensors import SafetensorError

from tasks_lib.engines.base import Frame
from tasks_lib.engines.signals import Draw
from tasks_lib.errors import EngineError

# Its bars are for people who watch a terminal.
transformers.utils.logging.disable_progress_bar()

KINDS = ("depth_anything", "dpt")


def depth(folder: str, contrast: float) -> Draw:
    """Depth as grey, from a frame's farthest to its nearest point; `contrast` spreads it round mid-grey.

    The model runs on the CPU, beside one that may fill the GPU. Raises `EngineError` for a folder that holds none.
    """
    processor, model = _load(Path(folder).expanduser())
    metric = getattr(model.config, "depth_estimation_type", "relative") == "metric"

    def draw(_: Frame, now: Frame) -> Frame:
        with torch.no_grad():
            found = model(**processor(images=now, return_tensors="pt"))
        (answer,) = processor.post_process_depth_estimation(found, target_sizes=[now.shape[:2]])
        nearness = answer["predicted_depth"].float().numpy()
        if metric:
            # Metres; relative models give their inverse, up to a factor and a shift.
            nearness = 1 / np.maximum(nearness, 1e-3)
        if not np.isfinite(nearness).all():
            raise EngineError(f"the depth model in `{folder}` gave values that are no numbers")
        share = (nearness - nearness.min()) / max(float(np.ptp(nearness)), 1e-6)
        grey = np.rint((0.5 + (share - 0.5) * contrast) * 255).clip(0, 255).astype(np.uint8)
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)

    return draw


def _load(folder: Path) -> tuple[Any, Any]:
    try:
        kind = transformers.AutoConfig.from_pretrained(folder, local_files_only=True).model_type
        if kind not in KINDS:
            raise ValueError(f"it is a {kind}; known are {', '.join(KINDS)}")
        return (
            transformers.DPTImageProcessorPil.from_pretrained(folder, local_files_only=True),
            transformers.AutoModelForDepthEstimation.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            ).eval(),
        )
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise EngineError(
            f"`depth` in UNITASK_MODELS, `{folder}`, is no Depth Anything or DPT model: {str(error)[:300]}"
        ) from error
