"""The container and Kubernetes files against the code that they start: without a container runtime, all that can be."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
import typer
import yaml  # type: ignore[import-untyped]
from fastapi.testclient import TestClient
from prefect.settings import Settings as PrefectSettings

from deployments import cli, supervisor
from deployments.gateway import create_app
from tasks_lib.settings import Settings

ROOT = supervisor.PROJECT
CONTAINERS, KUBERNETES = ROOT / "deployments/containers", ROOT / "deployments/kubernetes"
OPERATIONS = (ROOT / "docs/operations.md").read_text()
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|AUTH|_KEY|DATABASE\w*_URL")


def dockerfile() -> list[tuple[str, str]]:
    """Its instructions with what follows them, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (CONTAINERS / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines if line]


@cache
def compose() -> dict[str, Any]:
    """compose.yaml, its merge keys resolved."""
    return dict(yaml.safe_load((CONTAINERS / "compose.yaml").read_text()))


@cache
def kustomization() -> dict[str, Any]:
    return dict(yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text()))


def manifests() -> list[dict[str, Any]]:
    """What `kubectl apply --kustomize` would send, images and generated names apart."""
    found = [
        doc for name in kustomization()["resources"] for doc in yaml.safe_load_all((KUBERNETES / name).read_text())
    ]
    for patch in kustomization()["patches"]:
        for doc in found:
            if doc["kind"] == patch["target"]["kind"]:
                for change in yaml.safe_load((KUBERNETES / patch["path"]).read_text()):
                    assert change["op"] == "add"
                    add(doc, change["path"].strip("/").split("/"), change["value"])
    return found


def add(place: Any, path: list[str], value: Any) -> None:
    head, *rest = path
    key = int(head) if isinstance(place, list) else head
    if rest:
        add(place[key], rest, value)
    else:
        assert key not in place, f"{path} would be replaced"
        place[key] = value


def pods() -> dict[str, dict[str, Any]]:
    """The pods' specifications by the name of what makes them."""
    return {
        doc["metadata"]["name"]: doc["spec"]["template"]["spec"]
        for doc in manifests()
        if doc["kind"] in {"Deployment", "Job"}
    }


def commands() -> Iterator[list[str]]:
    yield yaml.safe_load(dict(dockerfile())["CMD"])
    yield from (service["command"] for service in compose()["services"].values() if "command" in service)
    yield from (pod["containers"][0]["args"] for pod in pods().values())


def variables() -> Iterator[tuple[str, str]]:
    """Every variable of ours or Prefect's that the files set, with its value."""
    for service in compose()["services"].values():
        yield from service.get("environment", {}).items()
    for generated in kustomization()["configMapGenerator"]:
        yield from assigned(generated["literals"])
    for name, rest in dockerfile():
        if name == "ENV":
            yield from assigned(shlex.split(rest))


def assigned(pairs: Sequence[str]) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        name, _, value = pair.partition("=")
        yield name, value


@pytest.mark.parametrize("command", list(commands()), ids=shlex.join)
def test_command_is_understood_when_our_parser_reads_it(command: list[str]) -> None:
    program, *arguments = command
    assert program == "unitask"
    group = typer.main.get_command(cli.app)
    with group.make_context("unitask", list(arguments), resilient_parsing=False) as context:
        name, found, rest = group.resolve_command(context, arguments)  # type: ignore[attr-defined]
        with found.make_context(name, rest, parent=context) as inner:
            if inner.args:
                assert options_of_prefect_workers().issuperset(arg for arg in inner.args if arg.startswith("--"))


@cache
def options_of_prefect_workers() -> frozenset[str]:
    command = [sys.executable, "-m", "prefect", "worker", "start", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return frozenset(re.findall(r"--[a-z-]+", told))


def test_sources_are_there_when_the_image_copies_them() -> None:
    ignored = (CONTAINERS / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [source for name, rest in dockerfile() if name == "COPY" for source in rest.split()[:-1]]
    assert copied
    assert all((ROOT / source).exists() for source in copied)
    assert {f"!{source}" for source in copied} == {line for line in ignored if line.startswith("!")}


def test_extras_are_declared_when_the_image_installs_them() -> None:
    found = [extras for _, rest in dockerfile() for extras in re.findall(r"\.\[([\w,]+)\]", rest)]
    wanted = {extra for extras in found for extra in extras.split(",")}
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert wanted
    assert wanted <= declared.keys()


def test_variable_is_a_setting_when_it_is_ours_or_prefects() -> None:
    ours = {f"UNITASK_{field}".upper() for field in Settings.model_fields}
    told = set(re.findall(r"UNITASK_[A-Z_]+", OPERATIONS.partition("## Containers")[2].partition("\n## ")[0]))
    named = {name for name, _ in variables()} | told
    assert {name for name in named if name.startswith("UNITASK_")} <= ours
    theirs = {name for name in named if name.startswith("PREFECT_")} - {"PREFECT_PASSWORD"}
    known = {alias.upper() for alias in prefect_variables(PrefectSettings)}
    assert theirs <= known


def prefect_variables(model: Any, prefix: str = "prefect") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            yield from prefect_variables(field.annotation, f"{prefix}_{name}")
        else:
            yield f"{prefix}_{name}"


def test_no_secret_has_a_value_when_a_file_names_it() -> None:
    for name, value in variables():
        if SECRET.search(name):
            assert "${" in value, name
        assert not re.search(r"://[^/@$]+:[^$@]+@", value), name
    for line in (CONTAINERS / "example.env").read_text().splitlines():
        assert line.startswith("#") or line.endswith("="), line
    asked = set(re.findall(r"\$\{(\w+):\?\}", (CONTAINERS / "compose.yaml").read_text()))
    assert asked == {line[:-1] for line in (CONTAINERS / "example.env").read_text().splitlines() if line.endswith("=")}
    assert asked >= set(re.findall(r"^\\getenv \w+ (\w+)", (CONTAINERS / "logins.sql").read_text(), re.MULTILINE))
    assert not [doc for doc in manifests() if doc["kind"] == "Secret"]


def test_secret_is_explained_when_a_pod_wants_it() -> None:
    sources = [source for pod in pods().values() for source in pod["containers"][0]["envFrom"]]
    wanted = {source["secretRef"]["name"] for source in sources if "secretRef" in source}
    explained = set(re.findall(r"^\| `([\w-]+)` \|", OPERATIONS.partition("## Containers")[2], re.MULTILINE))
    assert wanted <= explained


def test_probe_answers_when_the_gateway_runs(database_url: str) -> None:
    (container,) = pods()["gateway"]["containers"]
    with TestClient(create_app()) as client:
        for probe in ("readinessProbe", "livenessProbe"):
            assert client.get(container[probe]["httpGet"]["path"]).is_success, probe
    health = dict(pair.split("=", 1) for name, rest in dockerfile() if name == "ENV" for pair in shlex.split(rest))
    assert health["HEALTH_URL"].endswith(container["readinessProbe"]["httpGet"]["path"])


@pytest.mark.parametrize("name", ["api-worker", "gpu-worker"])
def test_worker_is_waited_for_when_it_drains(name: str) -> None:
    drain = Settings.model_fields["drain_seconds"].default + supervisor.HAND_BACK_SECONDS
    needed = drain + supervisor.WORKER_STOP_SECONDS + 5
    assert pods()[name]["terminationGracePeriodSeconds"] >= needed
    assert int(compose()["services"][name]["stop_grace_period"].removesuffix("s")) >= needed


def test_gateway_is_waited_for_when_streams_are_open() -> None:
    (container,) = pods()["gateway"]["containers"]
    before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pods()["gateway"]["terminationGracePeriodSeconds"] >= before + cli.STREAM_SECONDS + 5


def test_worker_flows_are_as_many_as_pods_when_pools_are_whole() -> None:
    replicas = {doc["metadata"]["name"]: doc["spec"]["replicas"] for doc in manifests() if doc["kind"] == "Deployment"}
    limits = dict(variables())
    for pool in supervisor.POOLS:
        assert limits[f"UNITASK_{pool.upper()}_WORKERS"] == str(replicas[f"{pool}-worker"])


def test_image_has_a_version_when_it_is_named() -> None:
    bases = [rest.split()[0] for name, rest in dockerfile() if name == "FROM"]
    stages = {rest.split()[-1] for name, rest in dockerfile() if name == "FROM"} | {"${POOL}-dependencies"}
    images = [base for base in bases if base not in stages]
    images += [service["image"] for service in compose()["services"].values()]
    images += [f"{image['newName']}:{image['newTag']}" for image in kustomization()["images"]]
    assert all(re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", image) for image in images), images
    named = {pod["containers"][0]["image"] for pod in pods().values()}
    assert named == {image["name"] for image in kustomization()["images"]}


def test_pod_is_restricted_when_it_runs() -> None:
    user = dict(dockerfile())["USER"].partition(":")[0]
    assert int(user) > 0
    for name, pod in pods().items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["runAsUser"] == int(user), name
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
    assert pods()["gpu-worker"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_selector_finds_pods_when_it_is_used() -> None:
    labels = [
        doc["spec"]["template"]["metadata"]["labels"] for doc in manifests() if doc["kind"] in {"Deployment", "Job"}
    ]

    def found(selector: dict[str, str]) -> bool:
        return any(selector.items() <= has.items() for has in labels)

    for doc in manifests():
        spec = doc.get("spec", {})
        for selector in (spec.get("selector"), spec.get("podSelector")):
            if selector:
                assert found(selector.get("matchLabels", selector)), doc["metadata"]
