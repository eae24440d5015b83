"""The README does what it says: its commands and its program run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.flows.conftest import Platform

README = (Path(__file__).parents[2] / "README.md").read_text()


def block(language: str) -> str:
    """The first block of a language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None, f"the README has no {language} block"
    return found[1]


def run(command: list[str], folder: Path, platform: Platform) -> str:
    """Run a command where a user would, and give what it printed."""
    programs = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_API_URL": platform.run.prefect_api_url,
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def pictures(folder: Path) -> None:
    for number, name in enumerate(("one.png", "two.png")):
        Image.linear_gradient("L").rotate(20 * number).resize((320, 180)).convert("RGB").save(folder / name)


def test_commands_of_the_readme_make_a_video_when_run_in_order(platform: Platform, tmp_path: Path) -> None:
    pictures(tmp_path)
    # The platform of the tests stays up.
    script = block("bash").replace("unitask down", "true")
    printed = run(["bash", "-euo", "pipefail", "-c", script], tmp_path, platform)
    assert "Complete" in printed
    assert "film.mp4" in printed
    assert platform.run.prefect_ui_url in printed


def test_program_of_the_readme_makes_a_video_when_run(platform: Platform, tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "travel.py").write_text(block("python"))
    project = str(platform.owner.project_id)
    printed = run([sys.executable, "travel.py", project, "one.png", "two.png"], tmp_path, platform)
    assert printed.startswith("Complete file://")
    again = run([sys.executable, "travel.py", project, "one.png", "two.png"], tmp_path, platform)
    assert again == printed, "the same idempotency key makes nothing new"
