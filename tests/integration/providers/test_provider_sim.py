"""The provider for trials, as a command."""

from __future__ import annotations

import subprocess
import sys

import httpx


def test_simulator_answers_and_ends_when_it_runs_as_a_command() -> None:
    command = [sys.executable, "-c", "from tasks_lib.cli import main; main()", "provider-sim", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split(" listens at ")[1].split(";")[0]
            order = {"call": "submit", "kind": "429", "times": 1, "seconds": 2}
            assert httpx.post(f"{url}/_sim/faults", json=order).json() == []
            headers = {"Authorization": "Key any"}
            turned_away = httpx.post(f"{url}/fal-ai/qwen-image", json={"prompt": "a cat"}, headers=headers)
            assert (turned_away.status_code, turned_away.headers["retry-after"]) == (429, "2")
            assert httpx.post(f"{url}/fal-ai/qwen-image", json={"prompt": "a cat"}, headers=headers).is_success
            (job,) = httpx.get(f"{url}/_sim/jobs").json()
            assert job["input"] == {"prompt": "a cat"}
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
