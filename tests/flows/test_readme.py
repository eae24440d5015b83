"""The README does what it says: its commands and its program run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tasks_lib import get_task, wait_for_task
from tests.flows.conftest import Platform

README = (Path(__file__).parents[2] / "README.md").read_text()


def block(language: str, below: str = "## Use it") -> str:
    """The first block of a language below a headline."""
    found = re.search(rf"\n{below}\n.*?```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None, f"the README has no {language} block below {below}"
    return found[1]


def run(command: list[str], folder: Path, platform: Platform, **environment: str) -> str:
    """Run a command where a user would, and give what it printed."""
    programs = str(Path(sys.executable).parent)
    given = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_API_URL": platform.run.prefect_api_url,
        **environment,
    }
    done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def shell(script: str, folder: Path, platform: Platform, **environment: str) -> str:
    """Run commands of the README in a shell, as far as they succeed; what they left in the background is ended."""
    ended = f"trap 'kill $(jobs -p) 2>&- || :' EXIT\n{script}"
    return run(["bash", "-euo", "pipefail", "-c", ended], folder, platform, **environment)


def me(platform: Platform, folder: Path) -> dict[str, str]:
    """The user of the README, as their shell knows them."""
    made = json.loads(run(["unitask", "token", "create", "me", "--output", "json"], folder, platform))
    return {"UNITASK_TOKEN": made["token"], "PROJECT": made["project_id"]}


def pictures(folder: Path) -> None:
    for number, name in enumerate(("one.png", "two.png")):
        Image.linear_gradient("L").rotate(20 * number).resize((320, 180)).convert("RGB").save(folder / name)


def test_commands_of_the_readme_make_a_video_when_run_in_order(platform: Platform, tmp_path: Path) -> None:
    pictures(tmp_path)
    # The platform of the tests stays up.
    printed = shell(block("bash").replace("unitask down", "true"), tmp_path, platform)
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


def test_http_call_of_the_readme_makes_a_task_when_run(platform: Platform, tmp_path: Path) -> None:
    pictures(tmp_path)
    mine = me(platform, tmp_path)
    printed = shell(block("bash", "### Over HTTP"), tmp_path, platform, **mine)
    made = json.loads(printed[printed.index("{") :])
    assert made["created"]
    assert wait_for_task(made["task_id"], timeout=60, token=mine["UNITASK_TOKEN"]).status == "Complete"


def test_deployment_runs_of_the_readme_make_a_video_when_run(platform: Platform, tmp_path: Path) -> None:
    pictures(tmp_path)
    mine = me(platform, tmp_path)
    printed = shell(block("bash", "### By Prefect"), tmp_path, platform, **mine)
    assert "Secret block unitask-token holds the token utk_" in printed
    assert "Completed" in printed
    (tmp_path / "deployed.py").write_text(block("python", "### By Prefect"))
    answer = run([sys.executable, "deployed.py", mine["PROJECT"], "one.png", "two.png"], tmp_path, platform, **mine)
    task_id, status, url = answer.split()
    assert status == "Complete"
    assert Path(url.removeprefix("file://")).is_file()
    assert get_task(task_id, token=mine["UNITASK_TOKEN"]).output_url == url
