"""What a task works with while it executes: its inputs as local files, an engine, and a place for its output."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks_lib import storage
from tasks_lib.adapters import adapters_of, require_adapters
from tasks_lib.engines.base import EngineResult, Frame, IsCancelled, Request
from tasks_lib.engines.select import engine_for
from tasks_lib.errors import EngineError, TaskError, reword
from tasks_lib.media.download import download
from tasks_lib.media.images import Picture, probe_image, save_picture, save_preview
from tasks_lib.media.sheet import save_poster
from tasks_lib.media.video import probe
from tasks_lib.models import Model
from tasks_lib.params.asked import asked_fields, gathered_notes, has_content, merged_notes, not_followed, source_of
from tasks_lib.params.structure import GuidedPartParams
from tasks_lib.planning.travel import PROMPTS
from tasks_lib.queue import ClaimedTask, Output, Progress
from tasks_lib.serving import default_model, model_for
from tasks_lib.settings import get_settings
from tasks_lib.types.registry import get_task_type

logger = logging.getLogger(__name__)

PARAMS_OF = {
    "prompt": ("prompt", "base_prompt", "enhanced_prompt", *PROMPTS),
    "negative_prompt": ("negative_prompt", "negative_prompts"),
    "seed": ("seed", "random_seed"),
    "guidance": ("guidance_scale",),
    "phases": ("phase_config",),
    "guide": tuple(GuidedPartParams.model_fields),
}
"""The parameters of tasks that a field of a request to an engine is made from, where they have other names."""


class Bench:
    """One task's workplace. `folder` is its own and is gone when the task has ended."""

    def __init__(
        self, task: ClaimedTask, folder: Path, report: Callable[[Progress], None], cancelled: IsCancelled
    ) -> None:
        self.task_type = task.task_type
        self.params = task.params
        self.asked = asked_fields(task.asked, task.params)
        """The parameters that the caller set, with the fields of the request that they come from."""
        self.inputs = task.inputs
        self.folder = folder
        self.cancelled = cancelled
        self._task = task
        self._alias = task.model or default_model(task.task_type, get_settings())
        self._report = report
        self._notes = [] if task.asked is None else list(task.asked["notes"])
        self._given_as: dict[Path, str] = {}
        self._newest: Frame | None = None
        self._previewed = -math.inf

    def fetch(self, reference: str) -> Path:
        """The picture or clip that a request names, as a local file. Errors name the field that it was given in."""
        field = source_of(reference, self.params, self.asked)
        path = self._new_file(Path(urlsplit(reference).path).suffix, field)
        try:
            if reference.startswith(storage.SCHEME):
                storage.fetch(storage.key_of(reference, self._task.project_id), path)
            else:
                download(reference, path)
        except TaskError as error:
            raise reword(error, f"`{field}`: {error}" if field else str(error), field) from None
        return path

    def in_words_of_the_request(self, error: TaskError) -> TaskError:
        """The same error with the field of the request in the place of a file's name, where one is named."""
        text, field = str(error), getattr(error, "field", None)
        for path, given_as in self._given_as.items():
            if given_as != path.name and path.name in text:
                text, field = text.replace(str(path), given_as).replace(path.name, given_as), given_as
        return reword(error, self._with_field(text), field)

    def _with_field(self, text: str) -> str:
        """A text about an adapter, with the field of the request that it was named in."""
        for place in adapters_of(self.params):
            field = source_of(place, self.params, self.asked)
            if f"`{field}`" not in text:
                text = text.replace(f"adapter `{place}`", f"adapter `{place}` (`{field}`)")
        return text

    def input_file(self, child_key: str) -> Path:
        """The output of a task that this one waited for, as a local file."""
        found = self.inputs.get(child_key)
        if found is None or not found["output_location"]:
            raise EngineError(f"the output of `{child_key}` is missing")
        path = self._new_file(Path(found["output_location"]).suffix, child_key)
        storage.fetch(found["output_location"], path)
        return path

    def model_for(self, kind: str) -> Model | None:
        """The model that serves a kind of request here; None is the engine without weights. Raises `EngineError`."""
        return model_for(kind, self._alias, get_settings())

    def run(self, request: Request) -> EngineResult:
        """Give a request to the engine that serves it: that of the task's model, or of its type's default one."""
        require_adapters(self.params, self.asked, get_settings())
        engine = engine_for(request, self._alias)
        result = engine.run(request, on_progress=self.on_progress, cancelled=self.cancelled)
        ignored = [
            note
            for field, why in engine.ignores(request).items()
            if has_content(getattr(request, field))
            for name in PARAMS_OF.get(field, (field,))
            for note in self.unfollowed(name, why)
        ]
        notes = [self._with_field(note) for note in merged_notes([*result.provenance.notes, *ignored])]
        self._notes += notes
        return EngineResult(self._seen(result.frames), replace(result.provenance, notes=tuple(notes)))

    def unfollowed(self, name: str, why: str) -> list[str]:
        """The notes that say that a parameter was not followed, in the words of the request; none if nobody set it."""
        return not_followed(self.asked.get(name, ()), why)

    def note(self, *notes: str) -> None:
        """Let the result say something to the person who asked for it."""
        self._notes += notes

    def gather_notes(self) -> None:
        """Let the result say what those of its parts say."""
        self.note(*gathered_notes({key: found["result"].get("notes", ()) for key, found in self.inputs.items()}))

    def on_progress(self, step: int, total: int, preview: Frame | None = None, /) -> None:
        """Say how far the work is, and what it looks like so far (else: the newest frame); call it for every step."""
        self._report(
            Progress(
                percent=100 * step / max(total, 1),
                step=step,
                total_steps=total,
                preview_key=self._keep_preview(self._newest if preview is None else preview),
            )
        )

    def keep(self, path: Path) -> str:
        """Store a file beside the output, and return its key."""
        key = storage.output_key(self._task.project_id, self._task.id, self._task.lease_id, path.name)
        storage.put(path, key)
        return key

    def output(self, path: Path, *, expect_frames: int | None = None, **facts: Any) -> Output:
        """Store a video as the task's output, and its poster beside it. Another number of frames than was planned is a
        failure."""
        media = probe(path)
        if expect_frames is not None and media.frames != expect_frames:
            raise EngineError(f"{path.name} has {media.frames} frames and should have {expect_frames}")
        poster = self.keep(save_poster(path, self.folder / "poster.jpg"))
        return Output(self.keep(path), {"media": media.as_dict(), "poster": poster, **facts, **self._noted()})

    def picture(self, picture: Picture, output_format: str, **facts: Any) -> Output:
        """Store a picture as the task's output: `jpeg`, `png` or `webp`; jpeg gives way to png for transparency."""
        kept = "png" if output_format == "jpeg" and picture.alpha is not None else output_format
        path = self.folder / f"picture.{kept}"
        save_picture(path, picture)
        return Output(self.keep(path), {"media": probe_image(path).as_dict(), **facts, **self._noted()})

    def _noted(self) -> dict[str, Any]:
        return {"notes": merged_notes(self._notes)}

    def _seen(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for self._newest in frames:
            yield self._newest

    def _keep_preview(self, frame: Frame | None) -> str | None:
        """Store a small picture of the work now and then, under the lease, and answer its key. Never fails the work."""
        if frame is None or time.monotonic() - self._previewed < get_settings().preview_seconds:
            return None
        self._previewed = time.monotonic()
        path = self.folder / "preview.jpg"
        save_preview(path, frame)
        try:
            return self.keep(path)
        except (OSError, TaskError) as error:
            logger.warning("no preview of %s: %s", self._task.name, error)
            return None

    def _new_file(self, suffix: str, given_as: str | None) -> Path:
        path = self.folder / f"input_{len(self._given_as) + 1:03d}{suffix}"
        self._given_as[path] = given_as or path.name
        return path


def execute(bench: Bench) -> Output:
    """Execute a task as its type says; errors are in the words of its request."""
    declared = get_task_type(bench.task_type)
    if declared.execute is None:
        raise EngineError(f"no engine makes a `{bench.task_type}`")
    try:
        output: Output = declared.execute(bench)
    except TaskError as error:
        raise bench.in_words_of_the_request(error) from error
    return output
