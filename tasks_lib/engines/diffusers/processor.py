"""The part of Qwen's processor that pictures need.

The whole one also reads videos, and for that alone it imports torchvision, which does not work beside the torch here.
"""

from __future__ import annotations

from typing import Any

from transformers import ProcessorMixin
from transformers.feature_extraction_utils import BatchFeature

_IMAGE = "<|image_pad|>"


class PictureProcessor(ProcessorMixin):  # type: ignore[misc]
    """Texts with pictures in them, as `Qwen2VLProcessor` prepares them, without video."""

    attributes = ["image_processor", "tokenizer"]
    image_processor_class = "AutoImageProcessor"
    tokenizer_class = "AutoTokenizer"

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def __call__(self, text: list[str], images: Any = None, **options: Any) -> BatchFeature:
        """Each place of a picture in a text becomes as many tokens as the picture has patches after merging."""
        found: dict[str, Any] = {}
        if images is not None:
            found = self.image_processor(images=images, return_tensors="pt")
            sizes = iter((found["image_grid_thw"].prod(-1) // self.image_processor.merge_size**2).tolist())
            text = [_widened(line, sizes) for line in text]
        return BatchFeature({**self.tokenizer(text, **options), **found})


def _widened(line: str, sizes: Any) -> str:
    head, *rest = line.split(_IMAGE)
    return head + "".join(_IMAGE * next(sizes) + part for part in rest)
