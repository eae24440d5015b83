"""The motion of the person in a video: points of the body by ViTPose, drawn as a skeleton, and the face cut out."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError

from tasks_lib.engines.base import Frame
from tasks_lib.errors import EngineError

CERTAIN = 0.3
"""A point that ViTPose is less sure of is not drawn."""

BATCH = 8

# The 17 points of COCO: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; left before right.
_FACE = slice(0, 5)
_LIMBS = (
    *((0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10)),
    *((5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16)),
)
_COLOURS = [tuple(int(255 * c) for c in colorsys.hsv_to_rgb(i / len(_LIMBS), 1, 1)) for i in range(len(_LIMBS))]


@dataclass(frozen=True)
class Pose:
    """One person in one frame: 17 points in pixels, x and y, and which of them are certain."""

    points: NDArray[np.float64]
    certain: NDArray[np.bool_]

    def box(self, margin: float, part: slice = slice(None)) -> tuple[int, int, int, int] | None:
        """Left, top, right and bottom of the certain points, wider by a share of their extent; None without any."""
        points = self.points[part][self.certain[part]]
        if len(points) < 2:
            return None
        low, high = points.min(axis=0), points.max(axis=0)
        more = margin * max(high - low)
        left, top = (int(value) for value in np.maximum(low - more, 0))
        right, bottom = (int(value) + 1 for value in high + more)
        return left, top, right, bottom


def find_poses(folder: Path, frames: Sequence[Frame]) -> list[Pose]:
    """The pose in each frame, taken to show one person.

    Raises `EngineError` for a folder that holds no ViTPose, and where no frame shows anybody.
    """
    try:
        processor = transformers.VitPoseImageProcessorPil.from_pretrained(folder, local_files_only=True)
        model: Any = transformers.VitPoseForPoseEstimation.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise EngineError(f"`pose` in UNITASK_MODELS, `{folder}`, is no ViTPose model: {str(error)[:300]}") from error
    height, width = frames[0].shape[:2]
    poses: list[Pose] = []
    for start in range(0, len(frames), BATCH):
        batch = list(frames[start : start + BATCH])
        boxes = [[[0.0, 0.0, float(width), float(height)]]] * len(batch)
        with torch.no_grad():
            heat = model(**processor(batch, boxes=boxes, return_tensors="pt"))
        for (person,) in processor.post_process_pose_estimation(heat, boxes=boxes):
            poses.append(Pose(np.asarray(person["keypoints"], float), np.asarray(person["scores"]) >= CERTAIN))
    if not any(pose.certain.any() for pose in poses):
        raise EngineError("the motion video shows nobody whose pose could be read")
    return poses


def skeleton(pose: Pose, width: int, height: int) -> Frame:
    """The limbs between certain points, each in its colour, on black."""
    canvas = np.zeros((height, width, 3), np.uint8)
    thickness = max(2, min(width, height) // 120)
    for (one, other), colour in zip(_LIMBS, _COLOURS, strict=True):
        if pose.certain[one] and pose.certain[other]:
            ends = [tuple(round(float(value)) for value in pose.points[i]) for i in (one, other)]
            cv2.line(canvas, ends[0], ends[1], colour, thickness, cv2.LINE_AA)
    return canvas


def face(pose: Pose, frame: Frame) -> Frame:
    """What is around nose, eyes and ears; the whole frame where they cannot be seen."""
    box = pose.box(0.6, _FACE)
    if box is None:
        return frame
    left, top, right, bottom = box
    cut = frame[top:bottom, left:right]
    return cut if cut.size else frame
