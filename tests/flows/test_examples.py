"""The examples do what they say, run as a user runs them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from deployments.gateway import create_app
from tests.flows.conftest import Platform, until

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def gateway(platform: Platform) -> Iterator[str]:
    """The address of a gateway of the platform."""
    server = uvicorn.Server(uvicorn.Config(create_app(), port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started, 30, "the gateway's start")
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize(
    ("example", "prints"),
    [
        ("batch.py", "{picture} Complete file://"),
        ("template.py", "Complete file://"),
        ("gateway_client.py", "Complete file://"),
    ],
)
def test_example_makes_what_it_says_when_it_is_run(platform: Platform, gateway: str, example: str, prints: str) -> None:
    pictures = [str(path) for path in platform.pictures(2)]
    address = [gateway] if example == "gateway_client.py" else []
    command = [sys.executable, str(EXAMPLES / example), *address, str(platform.owner.project_id), *pictures]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert prints.format(picture=pictures[0]) in done.stdout
