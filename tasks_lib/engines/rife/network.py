"""IFNet of RIFE (Huang et al., ECCV 2022) as its weights 4.25 and 4.26 are laid out, run straight from the tensors.

From coarse to fine, each block corrects the flows from the frame to be made to both images, and the mask that blends
them. How many blocks there are, how deep and how wide, is read from the names and shapes of the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional

from tasks_lib.engines.base import Frame

_SLOPE = 0.2  # of the rectifiers, below zero
_QUARTER = 4  # a block works at a quarter of the size that it is given
_PADDED = 128  # sides are brought to a multiple of it, in black, as in training


class IFNet:
    """The network on one device. Raises `KeyError` or `RuntimeError` for weights of another layout."""

    def __init__(self, weights: Mapping[str, torch.Tensor], device: str) -> None:
        named = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
        # The published files also hold what only training needed.
        used = {name: tensor for name, tensor in named.items() if re.match(r"encode\.|block\d", name)}
        self._weights = {name: tensor.to(device, torch.float32) for name, tensor in used.items()}
        self._blocks = len({name.partition(".")[0] for name in used}) - 1
        self._device = device
        blank = np.zeros((16, 16, 3), np.uint8)
        Pair(self, blank, blank).at(0.5)

    @property
    def bytes(self) -> int:
        """What its weights take."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._weights.values())

    def encode(self, image: Frame) -> torch.Tensor:
        """What the network sees of an image: its colours, 0 to 1, and its features, 1 x C x height x width, padded."""
        height, width = image.shape[:2]
        planes = torch.tensor(image, device=self._device).permute(2, 0, 1)[None].float() / 255
        seen = functional.pad(planes, (0, -width % _PADDED, 0, -height % _PADDED))
        features = self._rectified("encode.cnn0", seen, stride=2)
        for name in ("encode.cnn1", "encode.cnn2"):
            features = self._rectified(name, features)
        return torch.cat([seen, self._doubled("encode.cnn3", features)], 1)

    def between(self, a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
        """The frame at time t between what `encode` gave for two images, 1 x 3 x height x width, still padded."""
        time = torch.full_like(a[:, :1], t)
        moved_a, moved_b, flow, rest = a, b, None, a[:, :0]
        for i in range(self._blocks):
            colours, features = (
                [moved[:, part] for moved in (moved_a, moved_b)] for part in (slice(3), slice(3, None))
            )
            step, rest = self._block(i, torch.cat([*colours, *features, time, rest], 1), flow)
            flow = step if flow is None else flow + step
            moved_a, moved_b = _moved(a, flow[:, :2]), _moved(b, flow[:, 2:])
        share = torch.sigmoid(rest[:, :1])
        return moved_a[:, :3] * share + moved_b[:, :3] * (1 - share)

    def _block(self, i: int, seen: torch.Tensor, flow: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """A correction of both flows, and the mask with what the next block is told besides."""
        name, scale = f"block{i}", 1 << (self._blocks - 1 - i)
        seen = _resized(seen, 1 / scale)
        if flow is not None:
            seen = torch.cat([seen, _resized(flow, 1 / scale) / scale], 1)
        for half in ("conv0.0.0", "conv0.1.0"):
            seen = self._rectified(f"{name}.{half}", seen, stride=2)
        depth = 0
        while f"{name}.convblock.{depth}.beta" in self._weights:
            layer = f"{name}.convblock.{depth}"
            residual = self._convolved(f"{layer}.conv", seen) * self._weights[f"{layer}.beta"]
            seen = functional.leaky_relu(residual + seen, _SLOPE)
            depth += 1
        made = _resized(functional.pixel_shuffle(self._doubled(f"{name}.lastconv.0", seen), 2), scale)
        return made[:, :4] * scale, made[:, 4:]

    def _convolved(self, name: str, seen: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.conv2d(seen, weight, bias, stride, padding=1)

    def _rectified(self, name: str, seen: torch.Tensor, stride: int = 1) -> torch.Tensor:
        return functional.leaky_relu(self._convolved(name, seen, stride), _SLOPE)

    def _doubled(self, name: str, seen: torch.Tensor) -> torch.Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.conv_transpose2d(seen, weight, bias, stride=2, padding=1)


class Pair:
    """Two images and the network that draws what lies between them."""

    def __init__(self, network: IFNet, a: Frame, b: Frame) -> None:
        self._network = network
        self._images = a, b
        with torch.inference_mode():
            self._seen = network.encode(a), network.encode(b)

    def at(self, t: float) -> Frame:
        """The frame at time t from 0 (exactly a) to 1 (exactly b)."""
        if t in (0, 1):
            return self._images[int(t)]
        height, width = self._images[0].shape[:2]
        with torch.inference_mode():
            made = self._network.between(*self._seen, t)[0, :, :height, :width].permute(1, 2, 0)
            return np.asarray((made * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy())


def _resized(planes: torch.Tensor, factor: float) -> torch.Tensor:
    return functional.interpolate(planes, scale_factor=factor, mode="bilinear", align_corners=False)


def _moved(planes: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Each pixel from where its flow (x, y) points to."""
    height, width = planes.shape[2:]
    y, x = (torch.arange(side, dtype=planes.dtype, device=planes.device) for side in (height, width))
    at = torch.stack([(x + flow[0, 0]) * (2 / (width - 1)), (y[:, None] + flow[0, 1]) * (2 / (height - 1))], -1) - 1
    return functional.grid_sample(planes, at[None], "bilinear", "border", align_corners=True)
