"""RIFE's weights in their real layout, so narrow and shallow that they take some kilobytes."""

from __future__ import annotations

from pathlib import Path

import torch

Weights = dict[str, torch.Tensor]
BLOCKS, FEATURES, HINTS = 3, 2, 3


def random(seed: int = 0, spread: float = 0.1) -> Weights:
    """The same weights for the same seed; without spread the network moves nothing and blends both images equally."""
    made: Weights = {}
    generator = torch.Generator().manual_seed(seed)

    def layer(name: str, *shape: int, outputs: int) -> None:
        made[f"{name}.weight"] = spread * torch.randn(shape, generator=generator)
        made[f"{name}.bias"] = spread * torch.randn(outputs, generator=generator)

    for i, inputs in enumerate((3, 4, 4)):
        layer(f"encode.cnn{i}", 4, inputs, 3, 3, outputs=4)
    layer("encode.cnn3", 4, FEATURES, 4, 4, outputs=FEATURES)
    for i in range(BLOCKS):
        width = 8 - 2 * i
        seen = 2 * (3 + FEATURES) + 1 + (1 + HINTS + 4 if i else 0)
        layer(f"block{i}.conv0.0.0", width // 2, seen, 3, 3, outputs=width // 2)
        layer(f"block{i}.conv0.1.0", width, width // 2, 3, 3, outputs=width)
        for depth in range(2):
            layer(f"block{i}.convblock.{depth}.conv", width, width, 3, 3, outputs=width)
            made[f"block{i}.convblock.{depth}.beta"] = torch.ones(1, width, 1, 1)
        made_here = 4 * (4 + 1 + HINTS)
        layer(f"block{i}.lastconv.0", width, made_here, 4, 4, outputs=made_here)
    return made


def save(path: Path, weights: Weights | None = None) -> Path:
    """As they are published: every name begins with `module.`, and what training needed is there too."""
    named = {f"module.{name}": tensor for name, tensor in (weights or random()).items()}
    torch.save({**named, "module.teacher.conv0.0.0.bias": torch.zeros(4)}, path)
    return path
