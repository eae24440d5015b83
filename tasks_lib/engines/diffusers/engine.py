"""The engine of one model of the table: it loads or finds it warm, and lets the pipeline of the request draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import diffusers
import torch

from tasks_lib.engines import device, weights
from tasks_lib.engines.base import (
    Cancelled,
    EngineResult,
    Estimate,
    InbetweenRequest,
    IsCancelled,
    ModelRef,
    OnStep,
    Provenance,
    Request,
    watched,
)
from tasks_lib.engines.cache import Warm, warm_models
from tasks_lib.engines.diffusers import animate, load, pictures, upscale, wan
from tasks_lib.engines.diffusers.lora import adapters
from tasks_lib.engines.diffusers.phases import Plan, plan_steps
from tasks_lib.engines.diffusers.run import Made, Run
from tasks_lib.errors import EngineError, TaskError
from tasks_lib.models import PIPELINES, Model
from tasks_lib.params.loras import Lora
from tasks_lib.settings import Settings

DEFAULT_STEPS = 30

SERVES: dict[str, Callable[[Run, Any], Made]] = {
    "WanVACEPipeline": wan.by_guide,
    "WanImageToVideoPipeline": wan.by_ends,
    "WanPipeline": wan.picture,
    "WanAnimatePipeline": animate.animate,
    "QwenImagePipeline": pictures.generate,
    "QwenImageImg2ImgPipeline": pictures.vary,
    "QwenImageInpaintPipeline": pictures.inpaint,
    "QwenImageEditPipeline": pictures.edit,
    "QwenImageEditPlusPipeline": pictures.edit,
    "QwenImageEditInpaintPipeline": pictures.inpaint,
    "ZImagePipeline": pictures.generate,
    "ZImageImg2ImgPipeline": pictures.vary,
    "ZImageInpaintPipeline": pictures.inpaint,
    "StableDiffusionUpscalePipeline": upscale.upscale,
}
"""How each class of diffusers is asked."""

_SMALLER = {"none": "model", "model": "sequential", "sequential": "sequential"}


class DiffusersEngine:
    """A model of the table. What it loads stays in the cache of the process for the next task."""

    name = "diffusers"

    def __init__(self, alias: str, model: Model, settings: Settings) -> None:
        self._alias = alias
        self._model = model
        self._settings = settings

    def capabilities(self) -> frozenset[str]:
        """What its pipeline can be asked for."""
        return self._model.kinds

    def estimate(self, request: Request) -> Estimate:
        """The bytes of its weights, and the seconds of reading them from a disk of 500 MB/s; how long it draws depends
        on the device more than on anything that is known here."""
        self._require(request)
        size = weights.size_on_disk(load.find(self._alias, self._model))
        return Estimate(size / 5e8, size)

    def ignores(self, request: Request) -> Mapping[str, str]:
        """A negative prompt where no step is guided, and the one set of numbers where phases have their own."""
        ignored: dict[str, str] = {}
        plan = self._plan(request)
        if all(step.guidance is not None and step.guidance <= 1 for step in plan.steps):
            ignored["negative_prompt"] = "without guidance (above 1) a model looks at none"
        if isinstance(request, InbetweenRequest):
            if request.phases is not None:
                ignored |= dict.fromkeys(("steps", "guidance"), "`phase_config` sets its own")
            if not self._model.sees_frames:
                ignored |= dict.fromkeys(("guide", "guide_strength"), f"a {self._model.pipeline} follows no guide")
        return ignored

    def run(self, request: Request, *, on_progress: OnStep, cancelled: IsCancelled) -> EngineResult:
        """Draw all of it now. Short of memory, it lets go of every model and tries once more, keeping less of this one
        on the device; if that is too much too, the task may succeed on another worker."""
        self._require(request)
        if cancelled():
            raise Cancelled("stopped before the first step")
        notes: tuple[str, ...] = ()
        drawn = self._draw(request, self._model.offload, on_progress, cancelled)
        if drawn is None:
            warm_models().clear()
            notes = ("memory was short: every other model was let go of, and less of this one kept on the device",)
            drawn = self._draw(request, _SMALLER[self._model.offload], on_progress, cancelled)
        if drawn is None:
            warm_models().clear()
            raise EngineError(f"the model `{self._alias}` does not fit into the memory here", retryable=True)
        made, warm = drawn
        total = len(made.frames)
        return EngineResult(
            watched(made.frames, total, on_progress=lambda *_: None, cancelled=cancelled),
            Provenance(
                engine=self.name,
                method=made.method,
                seed=request.seed,
                model=ModelRef(self._alias, warm.digest),
                versions={"diffusers": diffusers.__version__, "torch": torch.__version__, "peft": version("peft")},
                notes=(*made.notes, *notes),
            ),
        )

    def _require(self, request: Request) -> None:
        if request.kind not in self.capabilities():
            raise EngineError(f"the model `{self._alias}`, a {self._model.pipeline}, cannot serve `{request.kind}`")

    def _draw(
        self, request: Request, offload: str, on_progress: OnStep, cancelled: IsCancelled
    ) -> tuple[Made, Warm] | None:
        """What the pipeline made, or None when memory was short. Not an exception: that would hold on to the tensors
        of every call it came through."""
        try:
            return self._drawn(request, offload, on_progress, cancelled)
        except (Cancelled, TaskError):
            raise
        except Exception as error:
            if device.is_shortage(error):
                return None
            detail = f"{type(error).__name__}: {str(error)[:500]}"
            raise EngineError(f"the model `{self._alias}` failed: {detail}") from error

    def _drawn(self, request: Request, offload: str, on_progress: OnStep, cancelled: IsCancelled) -> tuple[Made, Warm]:
        warm = self._warm(offload)
        plan = self._plan(request)
        name = PIPELINES[self._model.pipeline][request.kind]
        with adapters(warm.pipeline, self._model.loras, plan, self._settings) as loaded:
            run = Run(
                _as(name, warm.pipeline),
                plan,
                loaded,
                request.seed,
                on_progress,
                cancelled,
                previews=warm.offload == "none",
                edit_pixels=self._model.edit_pixels,
                pose=self._model.pose,
            )
            made = SERVES[name](run, request)
            return replace(made, notes=(*made.notes, *loaded.notes)), warm

    def _warm(self, offload: str) -> Warm:
        folder = load.find(self._alias, self._model)

        def fresh() -> Warm:
            pipeline = load.load(self._alias, self._model)
            size = load.size_in_memory(pipeline)
            load.place(pipeline, offload)
            in_ram = offload != "none" or device.name() == "cpu"
            return Warm(pipeline, size, weights.digest(folder), offload, in_ram)

        return warm_models().get(self._alias, weights.size_on_disk(folder), device.budget(self._settings), fresh)

    def _plan(self, request: Request) -> Plan:
        phases = request.phases if isinstance(request, InbetweenRequest) else None
        loras: tuple[Lora, ...] = getattr(request, "loras", ())
        steps = getattr(request, "steps", None) or self._model.steps or DEFAULT_STEPS
        guidance = getattr(request, "guidance", None)
        return plan_steps(steps, self._model.guidance if guidance is None else guidance, loras, phases)


def _as(name: str, pipeline: Any) -> Any:
    """The same weights under another pipeline class."""
    if type(pipeline).__name__ == name:
        return pipeline
    other = getattr(diffusers, name)(**pipeline.components)
    other.set_progress_bar_config(disable=True)
    return other
