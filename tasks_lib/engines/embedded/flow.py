"""Where each pixel of one image stands in another: dense flow with a start that reaches far.

DIS flow (Kroeger et al. 2016) follows motion of some tens of pixels. Keyframes along a camera path are further apart,
and turned and zoomed. So SIFT features find the camera's motion first (a homography, by MAGSAC), DIS measures
what remains after it, and where plain DIS explains the pixels better (something moved by itself) it wins. A scene
in which the camera is no help at all keeps the plain flow: half-right cameras do harm beyond the frame's border.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks_lib.engines.base import Frame

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Grey = NDArray[np.uint8]

_RATIO = 0.8  # Lowe's ratio test
_MIN_INLIERS = 16
_MIN_INLIER_SHARE = 0.2
_REPROJECTION_PX = 3.0
_NEARBY = 3.0  # sigma in pixels
_LOST = 64.0  # grey levels: about what two unrelated pixels differ by
# Grey levels. Measured: framings of photographs 0.2 to 1.0 with the camera, against 0.4 to 30 without; real clips,
# in which things move by themselves, the same with and without it or worse.
_CAMERA_GAIN, _CAMERA_SLACK = 0.7, 1.0
_AREA_CHANGE = (0.15, 7.0)


def grid(height: int, width: int) -> Floats:
    """The position (x, y) of every pixel: height x width x 2."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.dstack([x, y])


def sample(
    image: NDArray[Any], at: Floats, interpolation: int = cv2.INTER_LINEAR, border: int = cv2.BORDER_REPLICATE
) -> NDArray[Any]:
    """The image at positions (x, y), height x width x 2."""
    return np.asarray(cv2.remap(image, at[..., 0], at[..., 1], interpolation, borderMode=border))


def inside(at: Floats) -> Bools:
    """Which positions lie within an image of the same height and width."""
    height, width = at.shape[:2]
    x, y = at[..., 0], at[..., 1]
    return np.asarray((x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5))


def colour_error(a: Frame, b: Frame, at: Floats) -> Floats:
    """Mean absolute difference of the channels between each pixel of a and where b has it, 0 to 255."""
    return np.asarray(cv2.absdiff(a, sample(b, at)).mean(axis=2, dtype=np.float32))


def camera_motion(a: Grey, b: Grey) -> Floats | None:
    """The homography that takes positions in a to b, or None where the images do not show one plausible enough."""
    sift = cv2.SIFT.create(nfeatures=1500, contrastThreshold=0.02)
    found = [sift.detectAndCompute(image, None) for image in (a, b)]
    if any(len(keypoints) < _MIN_INLIERS for keypoints, _ in found):
        return None
    # RootSIFT: the square root makes Euclidean matching that of Hellinger, which is steadier under light.
    (from_a, of_a), (from_b, of_b) = ((k, np.sqrt(d / (d.sum(1, keepdims=True) + 1e-9))) for k, d in found)
    matches = [m for m, n in cv2.BFMatcher().knnMatch(of_a, of_b, k=2) if m.distance < _RATIO * n.distance]
    if len(matches) < _MIN_INLIERS:
        return None
    source = np.array([from_a[m.queryIdx].pt for m in matches], np.float32)
    target = np.array([from_b[m.trainIdx].pt for m in matches], np.float32)
    motion, inliers = cv2.findHomography(
        source, target, cv2.USAC_MAGSAC, _REPROJECTION_PX, maxIters=4000, confidence=0.999
    )
    if motion is None or inliers.sum() < max(_MIN_INLIERS, _MIN_INLIER_SHARE * len(matches)):
        return None
    return np.asarray(motion, np.float32) if _plausible(motion, *a.shape) else None


def move(motion: Floats, points: Floats) -> Floats:
    """Apply a homography to positions, ... x 2."""
    moved = cv2.perspectiveTransform(points.reshape(-1, 1, 2), motion)
    return np.asarray(moved, np.float32).reshape(points.shape)


def dense_flow(a: Frame, b: Frame) -> tuple[Floats, Floats, Floats | None]:
    """Displacements (x, y) of each pixel of a towards its place in b, and of b in a, and the camera's homography.

    The last is None where no camera motion was found, or where it explains the pixels no better than plain flow.
    """
    grey_a, grey_b = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (a, b))
    forward, backward = plain_flow(grey_a, grey_b), plain_flow(grey_b, grey_a)
    camera = camera_motion(grey_a, grey_b)
    if camera is None:
        return forward, backward, None
    there = _guided(a, b, forward, camera)
    back = _guided(b, a, backward, np.linalg.inv(camera))
    if there.error + back.error > _CAMERA_GAIN * (there.plain_error + back.plain_error) + _CAMERA_SLACK:
        return forward, backward, None
    return there.flow, back.flow, camera


class _Guided(NamedTuple):
    flow: Floats
    error: float
    plain_error: float


def _guided(a: Frame, b: Frame, plain: Floats, camera: Floats) -> _Guided:
    """Both flows, each where it is better, and the mean colour errors of the guided and of the plain one alone."""
    grey_a, grey_b = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (a, b))
    at = grid(*grey_a.shape)
    carried = move(camera, at)
    seen = inside(carried)
    # Where b shows nothing, a stands in for it, so that the rest of the patch has nothing to follow there.
    rest = plain_flow(grey_a, np.where(seen, sample(grey_b, carried), grey_a))
    rest[~seen] = 0
    guided = move(camera, at + rest) - at
    error_plain, error_guided = (_local_error(a, b, at + flow) for flow in (plain, guided))
    plain_wins = seen & (error_plain < 0.8 * error_guided - 1)
    share = cv2.GaussianBlur(cv2.medianBlur(plain_wins.astype(np.uint8), 5).astype(np.float32), (0, 0), 1)
    flow = np.asarray(guided + (plain - guided) * share[..., None], np.float32)
    return _Guided(flow, float(error_guided[seen].mean()), float(error_plain[seen].mean()))


def _local_error(a: Frame, b: Frame, at: Floats) -> Floats:
    """`colour_error` averaged round each pixel over what b shows; where it shows nothing, it is `_LOST`."""
    seen = inside(at).astype(np.float32)
    share = cv2.GaussianBlur(seen, (0, 0), _NEARBY)
    summed = cv2.GaussianBlur(colour_error(a, b, at) * seen, (0, 0), _NEARBY)
    return np.where(seen > 0, summed / np.maximum(share, 1e-3), np.float32(_LOST))


def plain_flow(a: Grey, b: Grey) -> Floats:
    """Displacements (x, y) of each pixel of a towards its place in b, by DIS alone: up to some tens of pixels."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setFinestScale(0)
    flow.setPatchStride(3)
    return np.asarray(flow.calc(a, b, None), np.float32)


def _plausible(motion: NDArray[np.float64], height: int, width: int) -> bool:
    """Whether the frame stays convex, is not mirrored, and neither collapses nor explodes."""
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = cv2.perspectiveTransform(corners[None], motion)[0]
    area = cv2.contourArea(moved, oriented=True) / (width * height)
    return cv2.isContourConvex(moved) and _AREA_CHANGE[0] < area < _AREA_CHANGE[1]
