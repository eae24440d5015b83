"""What the command line says of a task that waits because of what a person has set in Prefect."""

from __future__ import annotations

from tests.flows.conftest import Platform, until
from tests.flows.test_cli import answer, unitask


def test_pause_is_the_reason_when_a_person_paused_the_pool(platform: Platform) -> None:
    picture = platform.pictures(1)[0]
    made: list[str] = []

    def said() -> str:
        """What is shown of a new task: workers that live follow a pause within seconds, and not at once."""
        made.append(answer("create", "image_upscale", "--file", f"image_url={picture}")["task_id"])
        return " ".join(unitask("show", made[-1]).stdout.split())

    platform.api.patch("/work_pools/gpu", json={"is_paused": True}).raise_for_status()
    try:
        until(lambda: "waiting the work pool `gpu` is paused in Prefect" in said(), 60)
        assert "prefect work-pool resume gpu" in unitask("list").stdout
    finally:
        platform.api.patch("/work_pools/gpu", json={"is_paused": False}).raise_for_status()
    until(lambda: answer("show", made[-1])["status"] == "Complete")
