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
from tasks_lib.engines.base import EngineResult, Frame, IsCancelled, Request
from tasks_lib.engines.select import engine_for
from tasks_lib.errors import EngineError, TaskError
from tasks_lib.media.download import download
from tasks_lib.media.images import Picture, probe_image, save_picture, save_preview
from tasks_lib.media.sheet import save_poster
from tasks_lib.media.video import probe
from tasks_lib.models import Model
from tasks_lib.queue import ClaimedTask, Output, Progress
from tasks_lib.serving import default_model, model_for
from tasks_lib.settings import get_settings

logger = logging.getLogger(__name__)


class Bench:
    """One task's workplace. `folder` is its own and is gone when the task has ended."""

    def __init__(
        self, task: ClaimedTask, folder: Path, report: Callable[[Progress], None], cancelled: IsCancelled
    ) -> None:
        self.params = task.params
        self.inputs = task.inputs
        self.folder = folder
        self.cancelled = cancelled
        self._task = task
        self._alias = task.model or default_model(task.task_type, get_settings())
        self._report = report
        self._files = 0
        self._newest: Frame | None = None
        self._previewed = -math.inf

    def fetch(self, reference: str) -> Path:
        """The picture or clip that a request names, as a local file."""
        path = self._new_file(Path(urlsplit(reference).path).suffix)
        if reference.startswith(storage.SCHEME):
            storage.fetch(storage.key_of(reference, self._task.project_id), path)
        else:
            download(reference, path)
        return path

    def input_file(self, child_key: str) -> Path:
        """The output of a task that this one waited for, as a local file."""
        found = self.inputs.get(child_key)
        if found is None or not found["output_location"]:
            raise EngineError(f"the output of `{child_key}` is missing")
        path = self._new_file(Path(found["output_location"]).suffix)
        storage.fetch(found["output_location"], path)
        return path

    def model_for(self, kind: str) -> Model | None:
        """The model that serves a kind of request here; None is the engine without weights. Raises `EngineError`."""
        return model_for(kind, self._alias, get_settings())

    def run(self, request: Request) -> EngineResult:
        """Give a request to the engine that serves it: that of the task's model, or of its type's default one."""
        result = engine_for(request, self._alias).run(request, on_progress=self.on_progress, cancelled=self.cancelled)
        return replace(result, frames=self._seen(result.frames))

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
        return Output(self.keep(path), {"media": media.as_dict(), "poster": poster, **facts})

    def picture(self, picture: Picture, output_format: str, **facts: Any) -> Output:
        """Store a picture as the task's output: `jpeg`, `png` or `webp`; jpeg gives way to png for transparency."""
        kept = "png" if output_format == "jpeg" and picture.alpha is not None else output_format
        path = self.folder / f"picture.{kept}"
        save_picture(path, picture)
        return Output(self.keep(path), {"media": probe_image(path).as_dict(), **facts})

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

    def _new_file(self, suffix: str) -> Path:
        self._files += 1
        return self.folder / f"input_{self._files:03d}{suffix}"
