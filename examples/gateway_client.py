"""Make a film over HTTP, with httpx alone: `python examples/gateway_client.py GATEWAY PROJECT PICTURE...`.

Needs a platform (`unitask up`), a gateway (`unitask gateway`, at http://127.0.0.1:4280), and a token in UNITASK_TOKEN.
Any language can do the same: nothing of Unitask is imported.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import httpx


def main(gateway: str, project: str, *pictures: str) -> None:
    """Upload the pictures, create a travel, print its events until it has ended, and then its state."""
    headers = {"Authorization": f"Bearer {os.environ['UNITASK_TOKEN']}"}
    with httpx.Client(base_url=gateway, headers=headers, timeout=60) as client:
        images = [upload(client, project, Path(picture)) for picture in pictures]
        params = {"image_urls": images, "base_prompts": ["a walk"], "segment_frames": 9, "resolution": "128x128"}
        request = {"task_type": "travel_orchestrator", "project_id": project, "params": params}
        created = answer(client.post("/v1/tasks", json=request))
        follow(client, created["task_id"])
        task = answer(client.get(f"/v1/tasks/{created['task_id']}"))
        print(task["status"], task["output_url"] or task["error_message"])


def upload(client: httpx.Client, project: str, picture: Path) -> str:
    """Return the reference by which requests name an uploaded picture."""
    path = f"/v1/projects/{project}/media"
    reference: str = answer(client.put(path, params={"name": picture.name}, content=picture.read_bytes()))["reference"]
    return reference


def follow(client: httpx.Client, task_id: str) -> None:
    """Print a task's server-sent events, until it has ended."""
    with client.stream("GET", f"/v1/tasks/{task_id}/events", timeout=300) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                event = json.loads(line.removeprefix("data:"))
                print(event["kind"], event["data"].get("percent", ""))


def answer(response: httpx.Response) -> dict[str, str]:
    """Return the JSON of a success, and end with the gateway's own words otherwise."""
    if response.is_error:
        sys.exit(response.json()["error"]["message"])
    content: dict[str, str] = response.json()
    return content


if __name__ == "__main__":
    main(*sys.argv[1:])
