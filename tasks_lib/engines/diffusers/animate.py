"""Wan Animate: a character that moves as a person in a video does, or takes that person's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from tasks_lib.engines.base import AnimateRequest, Frame
from tasks_lib.engines.diffusers.guide import quantised
from tasks_lib.engines.diffusers.poses import Pose, face, find_poses, skeleton
from tasks_lib.engines.diffusers.run import Made, Run, cropped, drawn_size, frames_of
from tasks_lib.errors import EngineError
from tasks_lib.media.images import load_image
from tasks_lib.media.video import read_frames

SEGMENT = 77
"""Frames that the model makes at once; a longer video goes in segments, each from the last frame of the one before."""

LEAST = 5
_AROUND = 0.25


def animate(run: Run, request: AnimateRequest) -> Made:
    """Read the pose and face of every frame, and let the character follow them."""
    if run.pose is None:
        raise EngineError("to animate, `pose` in UNITASK_MODELS must name the folder of a ViTPose model")
    width, height = drawn_size(request.width, request.height)
    video = [_fitted(frame, width, height) for frame in read_frames(request.video)]
    asked = len(video)
    video += [video[-1]] * (max(quantised(asked), LEAST) - asked if asked < SEGMENT else 0)
    poses = find_poses(Path(run.pose), video)
    segment = min(SEGMENT, len(video))
    side = run.pipeline.transformer.config.motion_encoder_size
    notes = ["the motion is that of 17 points of one body: hands and fingers are not read"]
    inputs: dict[str, Any] = {
        "image": Image.fromarray(load_image(request.image, width, height)),
        "pose_video": [Image.fromarray(skeleton(pose, width, height)) for pose in poses],
        "face_video": [_square(face(pose, frame), side) for pose, frame in zip(poses, video, strict=True)],
    }
    if request.mode == "replace":
        masks = [_person(pose, width, height) for pose in poses]
        inputs["mask_video"] = [Image.fromarray(mask) for mask in masks]
        inputs["background_video"] = [
            Image.fromarray(np.where(mask[..., None] > 0, 0, frame).astype(np.uint8))
            for mask, frame in zip(masks, video, strict=True)
        ]
        notes.append("the person was cut out as a box around the body")
    guidance = run.plan.steps[0].guidance
    made = run.call(
        run.steps(width, height, times=-(-(len(video) - 1) // (segment - 1))),
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        mode=request.mode,
        width=width,
        height=height,
        segment_frame_length=segment,
        **inputs,
        **({} if guidance is None else {"guidance_scale": guidance}),
    )
    frames = [cropped(frame, request.width, request.height) for frame in frames_of(made.frames[0])[:asked]]
    if len(frames) != asked:
        raise EngineError(f"the model made {len(frames)} frames of a motion of {asked}")
    return Made(frames, request.mode, tuple(notes))


def _fitted(frame: Frame, width: int, height: int) -> Frame:
    return np.asarray(ImageOps.fit(Image.fromarray(frame), (width, height), Image.Resampling.LANCZOS), np.uint8)


def _square(frame: Frame, side: int) -> Image.Image:
    return ImageOps.pad(Image.fromarray(frame), (side, side), Image.Resampling.LANCZOS)


def _person(pose: Pose, width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """White where the person is."""
    mask = np.zeros((height, width), np.uint8)
    if box := pose.box(_AROUND):
        left, top, right, bottom = box
        mask[top:bottom, left:right] = 255
    return mask
