"""A machine without models and keys, by its command line: what can be made is made, the rest says what it needs."""

from __future__ import annotations

from PIL import Image

from tasks_lib import upload_media, wait_for_task
from tests.flows.conftest import Platform
from tests.flows.test_cli import answer, unitask


def test_type_of_a_provider_is_made_by_the_engine_when_nobody_has_a_key(platform: Platform) -> None:
    mask = platform.folder / "mask.png"
    Image.new("L", (64, 64), 0).save(mask)
    with Image.open(mask) as picture:
        picture.paste(255, (16, 16, 48, 48))
        picture.save(mask)
    (image,) = platform.images(1)
    created = answer(
        "create", "image_inpaint", "--set", f"image_url={image}",
        "--set", f"mask_url={upload_media(mask, project_id=platform.owner.project_id)}", "--set", "prompt=nothing",
    )  # fmt: skip
    task = wait_for_task(created["task_id"], timeout=60)
    assert task.status == "Complete", task.error_message
    assert task.result is not None
    assert task.result["provenance"]["engine"] == "embedded"


def test_refusal_and_list_say_what_a_type_needs_when_it_does_not_work_here(platform: Platform) -> None:
    works = {each["name"]: each for each in answer("types")}
    assert works["travel_orchestrator"]["works"], works
    assert works["image_inpaint"]["works"], works
    assert not works["qwen_image"]["works"]
    assert "UNITASK_FAL_KEY" in works["qwen_image"]["needs"]
    listed = unitask("types", COLUMNS="200").stdout
    assert "works here" in listed
    assert "needs a key for fal" in listed
    refused = unitask("create", "qwen_image", "--set", "prompt=a harbour")
    assert refused.returncode == 1
    assert "UNITASK_FAL_KEY" in refused.stderr
    assert "unitask keys set fal" in refused.stderr
