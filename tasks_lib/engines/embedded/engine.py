"""The embedded engine: what can be made from pixels alone."""

from __future__ import annotations

from collections.abc import Mapping

from tasks_lib.engines.base import (
    Cancelled,
    EngineResult,
    Estimate,
    InbetweenRequest,
    InpaintRequest,
    IsCancelled,
    OnStep,
    Request,
    UpscaleRequest,
    all_but,
)
from tasks_lib.engines.embedded import inbetween, inpainting, upscaling
from tasks_lib.engines.embedded.provenance import BY_PIXELS, FOLLOWED, NAME
from tasks_lib.errors import EngineError
from tasks_lib.models import WEIGHTLESS


class EmbeddedEngine:
    """In-between frames, larger pictures and filled holes, without a model; it says by which method."""

    name = NAME

    def capabilities(self) -> frozenset[str]:
        """What can be made from pixels alone: whatever follows a prompt needs a model."""
        return WEIGHTLESS

    def estimate(self, request: Request) -> Estimate:
        """From measurements on two cores of 2 GHz."""
        match request:
            case InbetweenRequest():
                return inbetween.estimate(request)
            case UpscaleRequest():
                return upscaling.estimate(request)
            case InpaintRequest():
                return inpainting.estimate(request)
            case _:
                raise _needs_model(request)

    def ignores(self, request: Request) -> Mapping[str, str]:
        """Words, noise and sampling, adapters and guides: pixels alone say what is made."""
        return all_but(request, FOLLOWED, BY_PIXELS)

    def run(self, request: Request, *, on_progress: OnStep, cancelled: IsCancelled) -> EngineResult:
        """Prepare the request now, make the frames as they are drawn."""
        if cancelled():
            raise Cancelled("stopped before the first frame")
        match request:
            case InbetweenRequest():
                return inbetween.travel(request, on_progress=on_progress, cancelled=cancelled)
            case UpscaleRequest():
                return upscaling.upscale(request, on_progress=on_progress, cancelled=cancelled)
            case InpaintRequest():
                return inpainting.inpaint(request, on_progress=on_progress, cancelled=cancelled)
            case _:
                raise _needs_model(request)


def _needs_model(request: Request) -> EngineError:
    return EngineError(
        f"the engine `{NAME}` cannot serve `{request.kind}`, which needs a model: install the extra `gpu`"
        " and describe one in UNITASK_MODELS"
    )
