"""Where a result belongs: its shot, and what it was made from."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import uuid4

from pydantic import AliasChoices, Field

from tasks_lib.params.base import OF_GALLERIES, GenerationId, Name, ParamGroup, ShotId, VariantId


class ShotParams(ParamGroup):
    """The shot that a result is put into."""

    shot_id: ShotId | None = None
    """The shot that the result belongs to."""

    def new_generation(self, content_type: str) -> dict[str, Any]:
        """The placement of a result that becomes a generation of its own."""
        placement = {"as": "generation", "type": content_type}
        return placement | ({"shot_id": str(self.shot_id)} if self.shot_id else {})


class FilmParams(ShotParams):
    """The video generation that a film fills."""

    NOT_FOLLOWED = {
        "generation_name": lambda params: (
            "`parent_generation_id` has its own name" if params.parent_generation_id else None
        )
    }

    parent_generation_id: GenerationId | None = None
    """A video generation to fill; without one a new one is made."""

    generation_name: Name | None = None
    """Name of the film."""

    def film(self) -> dict[str, Any]:
        """The placement of an orchestrator: its parts hang on this generation from the start, its film fills it."""
        placement = {"as": "existing", "generation_id": str(self.parent_generation_id)}
        if self.parent_generation_id is None:
            placement = {"as": "placeholder", "generation_id": str(uuid4()), "type": "video"}
            placement |= {"name": self.generation_name} if self.generation_name else {}
        return placement | ({"shot_id": str(self.shot_id)} if self.shot_id else {})


class LineageParams(ShotParams):
    """What an edit was made from, and whether it stands beside it or inside it."""

    NOT_FOLLOWED = {
        "source_variant_id": "it is kept with the request, and nothing is made from it",
        "tool_type": OF_GALLERIES,
    }

    based_on: Annotated[GenerationId | None, Field(validation_alias=AliasChoices("based_on", "generation_id"))] = None
    """The generation that is edited; `generation_id` is taken for it too."""

    source_variant_id: VariantId | None = None
    """The variant of it that was edited; kept with the request."""

    create_as_generation: bool = False
    """true: the result is a new generation that is based on the source. false: it is a variant of the source."""

    tool_type: Name | None = None
    """The tool that a person made it with, where that is not the type's own; kept for galleries."""

    def edited(self, variant_type: str, *, primary: bool = False) -> dict[str, Any]:
        """The placement of an edit: a variant of its source, or a generation of its own."""
        if self.based_on is None:
            return self.new_generation("image")
        if self.create_as_generation:
            return {**self.new_generation("image"), "based_on": str(self.based_on)}
        return {
            "as": "variant",
            "generation_id": str(self.based_on),
            "variant_type": variant_type,
            "primary": primary,
        }
