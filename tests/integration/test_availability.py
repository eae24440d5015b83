"""What works on a machine, and the shortest way to what does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import SecretStr

from tasks_lib import availability, list_task_types
from tasks_lib.auth.sealing import ensure_key_pair
from tasks_lib.availability import Maker, find_maker
from tasks_lib.errors import AuthenticationError, TaskValidationError
from tasks_lib.models import Model
from tasks_lib.providers.keys import set_key
from tasks_lib.settings import Settings, get_settings
from tasks_lib.types.registry import get_task_type, task_types
from tests.conftest import Owner

BARE: dict[str, Any] = {"database_url": "", "fal_key": None, "replicate_token": None}
WITHOUT_MODEL = {"image_inpaint", "image_upscale", "replicate_upscale", "wan_2_2_i2v", "individual_travel_segment"}
ORCHESTRATORS = {"travel_orchestrator", "join_clips_orchestrator"}


def machine(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Settings:
    """Settings of a machine that creates and works, for whoever asks."""
    made = Settings(**(BARE | settings))
    monkeypatch.setattr(availability, "get_settings", lambda: made)
    return made


def working() -> set[str]:
    return {each.name for each in list_task_types() if each.works}


def test_types_that_need_no_model_work_when_nothing_is_configured(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine(monkeypatch)
    assert working() == WITHOUT_MODEL | ORCHESTRATORS
    made = find_maker(get_task_type("image_inpaint"), None, owner.user_id, here)
    assert made == Maker("gpu", "made by an engine of this machine: nobody has given a key for fal")


def test_way_that_a_refusal_names_makes_the_type_work_when_it_is_followed(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine(monkeypatch)
    for name in set(task_types()) - working():
        declared = task_types()[name]
        if not declared.public:
            continue
        with pytest.raises(TaskValidationError) as refused:
            find_maker(declared, None, owner.user_id, here)
        assert refused.value.field == "task_type"
        text = str(refused.value)
        values: dict[str, Any] = {
            setting.lower().removeprefix("unitask_"): _value_after(text, f"{setting}='")
            for setting in ("UNITASK_MODELS", "UNITASK_PROVIDERS")
        }
        assert find_maker(declared, None, owner.user_id, Settings(**(BARE | values))) == Maker("gpu")


def _value_after(text: str, mark: str) -> Any:
    return json.loads(text.partition(mark)[2].partition("'")[0])


def test_own_key_makes_types_work_when_its_user_asks(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    ensure_key_pair(get_settings().home)
    before = working()
    set_key("fal", SecretStr("a-key-of-my-own"))
    assert working() > before | {"qwen_image", "z_image_turbo", "animate_character"}
    assert "magic_edit" not in working()
    (magic,) = [each for each in list_task_types() if each.name == "magic_edit"]
    assert "unitask keys set replicate" in str(magic.needs)
    assert list_task_types(token=SecretStr("")), "it may be asked without a login"
    with pytest.raises(AuthenticationError):
        list_task_types(token="nobody's")


def test_model_that_a_request_names_makes_it_when_there_is_no_key(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Model.model_validate({"pipeline": "ZImagePipeline", "path": "/nowhere"})
    here = machine(monkeypatch, models={"z": row})
    assert find_maker(get_task_type("z_image_turbo"), "z", owner.user_id, here).run_type == "gpu"
    with pytest.raises(TaskValidationError, match="name one of `z` as `model_name`") as refused:
        find_maker(get_task_type("single_image"), None, owner.user_id, here)
    assert refused.value.field == "task_type"
    with pytest.raises(TaskValidationError, match="no model `zz`") as refused:
        find_maker(get_task_type("single_image"), "zz", owner.user_id, here)
    assert refused.value.field == "model_name"


def test_only_workers_know_when_they_are_elsewhere(owner: Owner) -> None:
    assert {each.works for each in list_task_types()} == {None}
