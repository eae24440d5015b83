"""What the gateway answers of times and states: RFC 3339 everywhere, and states asked for in any case."""

from __future__ import annotations

import re
from typing import Any

import httpx

from tests.conftest import Owner
from tests.integration.platform.test_gateway import travel, web

__all__ = ["web"]

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d|Z)")
DATE = re.compile(r"\d{4}-\d\d-\d\d")


def times(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Every text that begins as a date does, but cursors."""
    if isinstance(value, dict):
        return [found for key, item in value.items() if key != "cursor" for found in times(item, key)]
    if isinstance(value, list):
        return [found for item in value for found in times(item, name)]
    return [(name, value)] if isinstance(value, str) and DATE.match(value) else []


def test_times_are_rfc_3339_when_tasks_and_events_are_read(web: httpx.Client, owner: Owner) -> None:
    made = web.post("/v1/tasks", json=travel(owner)).raise_for_status().json()
    web.post(f"/v1/tasks/{made['task_id']}/cancel").raise_for_status()
    answers = [web.get(path).raise_for_status().json() for path in ("/v1/tasks", f"/v1/tasks/{made['task_id']}/tree")]
    events = web.get(f"/v1/tasks/{made['task_id']}/events").raise_for_status().text
    found = [pair for answer in answers for pair in times(answer)]
    found += [("at", text) for text in re.findall(r'"at": ?"([^"]*)"', events)]
    assert {name for name, _ in found} >= {"created_at", "finished_at", "at"}
    assert [pair for pair in found if not TIME.fullmatch(pair[1])] == []


def test_tasks_are_found_when_their_state_is_asked_for_in_any_case(web: httpx.Client, owner: Owner) -> None:
    web.post("/v1/tasks", json=travel(owner)).raise_for_status()
    for status in ("pending", "PENDING", "Pending"):
        assert len(web.get("/v1/tasks", params={"status": status}).raise_for_status().json()) == 1
    assert web.get("/v1/tasks", params={"status": "waiting"}).status_code == 422
