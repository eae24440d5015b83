"""The main job on one machine: four keyframes become one travelling video.

Run it with `make demo`. It starts Postgres, Prefect and the workers, creates a user, a project, a token and a travel,
shows how it goes, checks the film, and stops what it started. `unitask up` leaves the platform running instead.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from deployments import deploy, supervisor
from deployments.state import state
from flows import fleet
from flows.controls import WORKERS
from tasks_lib import accounts, client, create_travel_between_images_task, monitor, storage, upload_media
from tasks_lib.auth import issue_token
from tasks_lib.errors import TaskError
from tasks_lib.media.images import load_image
from tasks_lib.media.quality import psnr
from tasks_lib.media.video import probe, read_frames

WIDTH, HEIGHT = 640, 360
FRAMES = 33
OUT = Path("out/demo")

# A camera path over one photograph: where it looks (as shares of width and height), and how wide its view is.
CAMERA = [(0.30, 0.42, 0.50), (0.44, 0.50, 0.62), (0.58, 0.46, 0.52), (0.50, 0.52, 0.95)]

console = Console(highlight=False)


class Stopwatch:
    """Where the time went."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        """Time a part of the run."""
        start = time.monotonic()
        with console.status(f"{name} …"):
            yield
        self.laps[name] = time.monotonic() - start


def main() -> int:
    """Run the demo; answer the exit status."""
    watch = Stopwatch()
    was_running = state() is not None
    try:
        with watch.lap("Postgres, Prefect and the deployments"):
            run = supervisor.up()
            deploy.deploy()
            fleet.ensure_workers(minimum=dict.fromkeys(WORKERS, 1), api_url=run.prefect_api_url)
        console.print(f"Prefect UI: [bold]{run.prefect_ui_url}[/]")
        with watch.lap("user, project, token and keyframes"):
            user_id = accounts.ensure_user("demo")
            project_id = accounts.ensure_project(user_id, "demo", "16:9")
            token = issue_token(user_id, label="demo").secret
            pictures = make_keyframes(OUT / "keyframes")
            references = [upload_media(path, project_id=project_id, token=token) for path in pictures]
        created = create_travel_between_images_task(
            project_id=project_id,
            image_urls=references,
            base_prompts=["a walk round a cup of coffee"],
            segment_frames=FRAMES,
            frame_overlap=0,
            resolution=f"{WIDTH}x{HEIGHT}",
            token=token,
        )
        console.print(f"travel [bold]{created.task_id}[/]")
        start = time.monotonic()
        task = monitor.watch(str(created.task_id), console, token=token)
        if task.status != "Complete":
            console.print(f"[red]{task.status}: {task.error_message}")
            return 1
        watch.laps["first worker on its way"] = (task.started_at - task.created_at).total_seconds()  # type: ignore[operator]
        watch.laps["the travel itself"] = time.monotonic() - start - watch.laps["first worker on its way"]
        with watch.lap("checking the film"):
            film, sheet = fetch_results(task)
            ok = show(task, film, sheet, pictures)
        console.print(f"Its run: {run.prefect_ui_url}/runs/flow-run/{task.flow_run_id}")
        return 0 if ok else 1
    finally:
        if not was_running:
            with watch.lap("stopping everything"):
                supervisor.down()
        show_times(watch.laps)


def make_keyframes(folder: Path) -> list[Path]:
    """Four framings of a photograph that lies inside scikit-image's wheel."""
    spec = find_spec("skimage")
    assert spec is not None
    assert spec.submodule_search_locations
    photo = Image.open(Path(spec.submodule_search_locations[0]) / "data" / "coffee.png").convert("RGB")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (x, y, view) in enumerate(CAMERA):
        width = photo.width * view
        height = width * HEIGHT / WIDTH
        left = min(max(x * photo.width - width / 2, 0), photo.width - width)
        top = min(max(y * photo.height - height / 2, 0), photo.height - height)
        path = folder / f"{number}.png"
        box = (left, top, left + width, top + height)
        photo.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=box).save(path)
        paths.append(path)
    return paths


def fetch_results(task: client.Task) -> tuple[Path, Path]:
    """Copy the film and its contact sheet out of storage."""
    assert task.output_location is not None
    assert task.result is not None
    film, sheet = (OUT / "film.mp4").resolve(), (OUT / "contact_sheet.png").resolve()
    storage.fetch(task.output_location, film)
    storage.fetch(task.result["contact_sheet"], sheet)
    return film, sheet


def show(task: client.Task, film: Path, sheet: Path, pictures: list[Path]) -> bool:
    """Print what came out, and check it against the plan: frames, codec and keyframes."""
    assert task.result is not None
    facts, timeline = probe(film), task.params["timeline"]
    table = Table("segment", "method", "confidence", "engine", box=None, header_style="bold")
    for segment in task.result["segments"]:
        confidence = segment["confidence"]
        table.add_row(
            segment["key"], segment["method"], "" if confidence is None else f"{confidence:.2f}", segment["engine"]
        )
    console.print(table)
    images = {at: load_image(path, WIDTH, HEIGHT) for at, path in zip(timeline["keyframes"], pictures, strict=True)}
    match = {at: psnr(frame, images[at]) for at, frame in enumerate(read_frames(film)) if at in images}
    console.print("keyframes: " + ", ".join(f"frame {at} at {quality:.1f} dB" for at, quality in match.items()))
    console.print(
        f"film: [bold]{film}[/] ({facts.codec}, {facts.frames} frames of {timeline['total_frames']} planned, "
        f"{facts.width}x{facts.height}, {facts.duration:.2f} s)",
        soft_wrap=True,
    )
    console.print(f"contact sheet: [bold]{sheet}[/]", soft_wrap=True)
    return facts.frames == timeline["total_frames"] and facts.codec == "h264" and min(match.values()) >= 35


def show_times(laps: dict[str, Any]) -> None:
    """Print where the time went."""
    table = Table("where the time went", "seconds", box=None, header_style="bold")
    for name, seconds in laps.items():
        table.add_row(name, f"{seconds:.1f}")
    table.add_row("in all", f"{sum(laps.values()):.1f}", style="bold")
    console.print(table)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TaskError as error:
        console.print(f"[red]{error}")
        sys.exit(1)
