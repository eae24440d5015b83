"""prefect.yaml is refused, by name, where Prefect would silently drop a key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from deployments import manifest
from deployments.errors import PlatformError
from deployments.supervisor import PROJECT

QUEUES = {"gpu": ("workers",), "api": ("workers", "requests")}
ENTRY = {
    "name": "hello",
    "description": "Says hello.",
    "entrypoint": "flows/hello.py:hello",
    "tags": ["unitask"],
    "version": manifest.VERSION,
    "work_pool": {"name": "api", "work_queue_name": "requests"},
    "schedules": [{"slug": "often", "interval": 60}],
}


def project(folder: Path, **changes: object) -> Path:
    (folder / "flows").mkdir()
    (folder / "flows" / "hello.py").touch()
    (folder / "prefect.yaml").write_text(yaml.safe_dump({"deployments": [ENTRY | changes]}))
    return folder


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"work_poool": {"name": "api"}}, "`hello`: `work_poool` is not a key of Prefect's; did you mean `work_pool`"),
        ({"work_pool": {"name": "api", "work_queue": "requests"}}, "`work_pool.work_queue` .* `work_queue_name`"),
        ({"work_pool": {"name": "cpu"}}, "`work_pool.name` is `cpu`; known are `gpu`, `api`"),
        ({"work_pool": {"name": "gpu", "work_queue_name": "requests"}}, "known are `workers`"),
        ({"schedules": [{"slug": "often", "intervall": 60}]}, "`schedules.0..intervall` .* `interval`"),
        ({"schedules": [{"interval": 60}]}, "`schedules.0..slug` is missing"),
        ({"concurrency_limit": {"limits": 1}}, "`concurrency_limit.limits` .* `limit`"),
        ({"tags": ["other"]}, "`tags` must hold `unitask`"),
        ({"entrypoint": "flows/gone.py:hello"}, "no file `flows/gone.py:hello`"),
        ({"version": "1"}, "`version` must be"),
        ({"description": ""}, "`description` is missing"),
    ],
)
def test_it_is_refused_by_name_when_it_has_a_mistake(tmp_path: Path, changes: dict[str, object], named: str) -> None:
    with pytest.raises(PlatformError, match=named):
        manifest.read(project(tmp_path, **changes), QUEUES)


def test_the_digest_changes_when_a_flow_changes(tmp_path: Path) -> None:
    root = project(tmp_path)
    before = manifest.read(root, QUEUES)
    assert manifest.read(root, QUEUES) == before
    (root / "flows" / "hello.py").write_text("# other")
    assert manifest.read(root, QUEUES).digest != before.digest


def test_a_known_key_is_one_that_prefect_reads_when_it_registers() -> None:
    from prefect.cli.deploy import _models as prefect

    assert set(prefect.DeploymentConfig.model_fields) >= manifest.DEPLOYMENT
    assert set(prefect.WorkPoolConfig.model_fields) == manifest.WORK_POOL
    assert set(prefect.ConcurrencyLimitSpec.model_fields) == manifest.CONCURRENCY
    assert set(prefect.RawScheduleConfig.model_fields) == manifest.SCHEDULE
    read = {field.alias or name for name, field in prefect.PrefectYamlModel.model_fields.items()}
    assert read | {"definitions"} == manifest.TOP


def test_no_key_is_misspelt_when_the_file_is_ours() -> None:
    document = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    names = {entry["name"] for entry in document["deployments"]}
    assert {"create-task", "gpu-worker", "api-worker", "travel-orchestrator", "maintenance"} <= names
    read = manifest.read(PROJECT, {"gpu": ("workers", "requests"), "api": ("workers", "requests")})
    assert {entry.name for entry in read.deployments} == names
