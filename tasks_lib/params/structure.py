"""Videos that guide the motion of the one to make."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tasks_lib.params.base import Fraction, MediaReference, ParamGroup, Strength

Treatment = Literal["adjust", "clip"]


class VideoStructureParams(ParamGroup):
    """One guiding video and how it acts."""

    NOT_FOLLOWED = dict.fromkeys(
        ("structure_video_treatment", "structure_video_motion_strength", "structure_video_type"),
        lambda params: None if params.structure_video_path else "there is no `structure_video_path`",
    )

    structure_video_path: MediaReference | None = None
    """The guiding video; without one the other structure settings have no effect."""

    structure_video_treatment: Treatment = "adjust"
    """Stretch the guide over the whole travel, or keep its speed and cut it."""

    structure_video_motion_strength: Strength = 1.0
    """How strongly the guide acts; 1 is as it is. It scales the motion of `flow`, and how much others are heeded."""

    structure_video_type: Literal["flow", "canny", "depth"] = "flow"
    """What is taken from the guide: its motion, its edges or its depth."""


class GuideVideo(ParamGroup):
    """One guiding video and the frames of the film that it guides."""

    REFUSED = dict.fromkeys(("metadata", "resource_id"), "belongs to the form and is not sent")

    path: MediaReference
    """The video."""

    start_frame: Annotated[int, Field(ge=0)] = 0
    """First frame of the film that it guides; of a segment alone, see `film_start`."""

    end_frame: Annotated[int, Field(ge=1)] | None = None
    """Frame before which it ends; none is the end of the film."""

    treatment: Treatment = "adjust"
    """Stretch it over these frames, or keep its speed and cut it; past its own end nothing guides."""

    source_start_frame: Annotated[int, Field(ge=0)] = 0
    """First of its own frames that is used."""

    source_end_frame: Annotated[int, Field(ge=1)] | None = None
    """Its own frame before which it ends; none is its end."""

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        for start, end in (("start_frame", "end_frame"), ("source_start_frame", "source_end_frame")):
            last = getattr(self, end)
            if last is not None and last <= getattr(self, start):
                raise ValueError(f"`{end}` must be above `{start}`")
        return self


class StructureGuidance(ParamGroup):
    """Guiding videos and how they act."""

    NOT_FOLLOWED = {
        "step_window": "the guide acts in every step",
        **dict.fromkeys(
            ("frame_policy", "zero_empty_frames"),
            lambda params: "it is for `target` uni3c alone" if params.target == "vace" else None,
        ),
        "canny_intensity": lambda params: None if params.preprocessing == "canny" else "`preprocessing` is not canny",
        "depth_contrast": lambda params: None if params.preprocessing == "depth" else "`preprocessing` is not depth",
    }

    target: Literal["uni3c", "vace"]
    """What takes the guidance: a control network, which no pipeline here has, or the model's own guide input."""

    videos: Annotated[list[GuideVideo], Field(min_length=1, max_length=64)]
    """The guides."""

    strength: Strength = 1.0
    """How strongly they act: it scales the motion of `flow`, and how much others are heeded."""

    step_window: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.0, 1.0]
    """uni3c: the part of the inference steps in which they act, from and to, each 0 to 1."""

    frame_policy: Literal["fit", "clip"] = "fit"
    """uni3c: stretch the guide to the segment, or cut it."""

    zero_empty_frames: bool = True
    """uni3c: frames without a guide are left free."""

    preprocessing: Literal["flow", "canny", "depth", "none"] = "flow"
    """vace: what is taken from the guide."""

    canny_intensity: Strength = 1.0
    """vace: brightness of the edges."""

    depth_contrast: Strength = 1.0
    """vace: contrast of the depth."""

    @model_validator(mode="after")
    def _window_is_in_order(self) -> Self:
        if self.step_window[0] > self.step_window[1]:
            raise ValueError("`step_window` must be [from, to] with from not above to")
        return self

    @model_validator(mode="after")
    def _one_guide_at_a_time(self) -> Self:
        order = sorted(range(len(self.videos)), key=lambda i: self.videos[i].start_frame)
        for one, other in pairwise(order):
            end, start = self.videos[one].end_frame, self.videos[other].start_frame
            if end is None or end > start:
                until = "goes on to the end of the film" if end is None else f"ends before frame {end}"
                raise ValueError(f"`videos[{other}]` begins at frame {start}, and `videos[{one}]` {until}")
        return self


class StructureGuidanceParams(VideoStructureParams):
    """A guide as one video, or as an object that holds several."""

    structure_guidance: StructureGuidance | None = None
    """Several guides, or the finer settings of one; instead of `structure_video_path`."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.structure_guidance and self.structure_video_path:
            raise ValueError("give `structure_guidance` or `structure_video_path`, not both")
        return self

    def guidance(self) -> StructureGuidance | None:
        """Both forms in one shape."""
        if self.structure_video_path is None:
            return self.structure_guidance
        return StructureGuidance(
            target="vace",
            videos=[GuideVideo(path=self.structure_video_path, treatment=self.structure_video_treatment)],
            strength=self.structure_video_motion_strength,
            preprocessing=self.structure_video_type,
        )


class GuidedPartParams(StructureGuidanceParams):
    """The guide of a part of a film."""

    NOT_FOLLOWED = dict.fromkeys(
        ("film_start", "film_frames"), lambda params: None if params.guidance() else "there is no guide to be placed"
    )

    film_start: Annotated[int, Field(ge=0)] = 0
    """The frame of the film that its first frame is: the frames of guides are counted on the film."""

    film_frames: Annotated[int, Field(ge=1)] | None = None
    """Frames of the whole film, over which a guide is stretched; without it, the film ends with this part."""

    @model_validator(mode="after")
    def _is_in_the_film(self) -> Self:
        if self.film_frames is not None and self.film_start >= self.film_frames:
            raise ValueError(f"`film_start` is {self.film_start}, and the film has {self.film_frames} frames")
        return self
