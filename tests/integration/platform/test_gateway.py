"""The gateway, over real HTTP: the library's calls, its errors as statuses, and bounds on what it takes in."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa
import uvicorn
from PIL import Image

from db import tables
from deployments.gateway import create_app
from deployments.gateway.bodies import REQUEST_BYTES
from tasks_lib import database
from tasks_lib.auth import issue_token, revoke_token
from tasks_lib.settings import get_settings
from tests.conftest import Owner, forget_engine, make_owner
from tests.unit.auth.signing import SECRET, forged, shared

PARAMS: dict[str, Any] = {"image_urls": ["https://example.com/0.jpg"], "base_prompts": ["a walk"], "segment_frames": 9}


@pytest.fixture
def web(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """The gateway, and a client that shows the owner's token."""
    monkeypatch.setenv("UNITASK_JWT_SECRET", SECRET)
    monkeypatch.setenv("UNITASK_GATEWAY_ORIGINS", '["https://app.example.com"]')
    get_settings.cache_clear()
    server = uvicorn.Server(uvicorn.Config(create_app(), port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < until
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    headers = {"Authorization": f"Bearer {owner.token}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
        yield client
    server.should_exit = True
    thread.join()


def travel(owner: Owner, **more: Any) -> dict[str, Any]:
    return {"task_type": "travel_orchestrator", "params": PARAMS, "project_id": str(owner.project_id), **more}


def stored() -> int:
    with database.transaction() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(tables.tasks)).scalar_one()


def test_task_lives_its_life_when_it_is_driven_by_http(web: httpx.Client, owner: Owner) -> None:
    made = web.post("/v1/tasks", json=travel(owner, idempotency_key="one"))
    again = web.post("/v1/tasks", json=travel(owner, idempotency_key="one"))
    assert (made.status_code, again.status_code) == (201, 200)
    task_id = made.json()["task_id"]
    assert again.json()["task_id"] == task_id
    assert web.get(f"/v1/tasks/{task_id}").json()["status"] == "Pending"
    assert [task["id"] for task in web.get("/v1/tasks", params={"status": "Pending"}).json()] == [task_id]
    assert web.post(f"/v1/tasks/{task_id}/cancel").json() == [task_id]
    assert web.get(f"/v1/tasks/{task_id}").json()["status"] == "Cancelled"
    assert task_id in web.post(f"/v1/tasks/{task_id}/retry").json()


def test_batch_stores_nothing_and_names_the_rows_when_one_is_wrong(web: httpx.Client, owner: Owner) -> None:
    wrong = travel(owner) | {"params": {**PARAMS, "segment_framse": 9}}
    answer = web.post("/v1/tasks/batch", json={"requests": [travel(owner), wrong]})
    assert answer.status_code == 422
    (refusal,) = answer.json()["error"]["refusals"]
    assert (refusal["index"], refusal["field"]) == (1, "segment_framse")
    assert "segment_frames" in refusal["message"]
    assert stored() == 0
    assert len(web.post("/v1/tasks/batch", json={"requests": [travel(owner)] * 2}).json()) == 2


def test_pages_follow_each_other_when_a_list_is_long(web: httpx.Client, owner: Owner) -> None:
    made = web.post("/v1/tasks/batch", json={"requests": [travel(owner)] * 3}).json()
    batch_id = web.get(f"/v1/tasks/{made[0]['task_id']}").json()["batch_id"]
    found: list[str] = []
    after: dict[str, str] = {}
    while page := web.get("/v1/tasks", params={"batch_id": batch_id, "limit": 2, **after}).json():
        found += [task["id"] for task in page]
        after = {"after": page[-1]["cursor"]}
    assert found == [task["task_id"] for task in made]


def test_tasks_are_found_when_http_filters_them(web: httpx.Client, owner: Owner) -> None:
    first, second = (web.post("/v1/tasks", json=travel(owner)).json()["task_id"] for _ in range(2))
    web.post(f"/v1/tasks/{first}/cancel")
    since = web.get(f"/v1/tasks/{second}").json()["created_at"]

    def found(**filters: Any) -> list[str]:
        return [task["id"] for task in web.get("/v1/tasks", params=filters).json()]

    assert found(status=["Pending", "Cancelled"]) == [second, first]
    assert found(status="Cancelled") == [first]
    assert found(created_after=since) == [second]
    assert found(created_before=since) == [first]
    for wrong in ({"status": "Done"}, {"created_after": "yesterday"}, {"created_after": "2026-01-01T00:00:00"}):
        answer = web.get("/v1/tasks", params=wrong)
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, next(iter(wrong)))


def test_task_waits_when_its_dependency_is_named_by_http(web: httpx.Client, owner: Owner) -> None:
    first = web.post("/v1/tasks", json=travel(owner)).json()["task_id"]
    for given in (first, {"task_id": first, "policy": "run_anyway"}):
        assert web.post("/v1/tasks", json=travel(owner, depends_on=[given])).status_code == 201
    with database.transaction() as connection:
        edges = connection.execute(sa.select(tables.task_dependencies.c.policy)).scalars()
        assert sorted(edges) == ["fail", "run_anyway"]
    missing = web.post("/v1/tasks", json=travel(owner, depends_on=[str(uuid4())]))
    assert (missing.status_code, missing.json()["error"]["refusals"][0]["field"]) == (404, "depends_on[0]")


def test_upload_is_named_by_its_reference_when_it_was_stored(web: httpx.Client, owner: Owner) -> None:
    picture = BytesIO()
    Image.new("RGB", (64, 64), "red").save(picture, "PNG")
    path = f"/v1/projects/{owner.project_id}/media"
    reference = web.put(path, params={"name": "../../a.png"}, content=picture.getvalue()).json()["reference"]
    assert reference.startswith(f"unitask://{owner.project_id}/")
    assert web.post("/v1/tasks", json=travel(owner) | {"params": {**PARAMS, "image_urls": [reference]}}).is_success
    stranger = {"Authorization": f"Bearer {make_owner().token}"}
    assert web.put(path, params={"name": "a.png"}, content=picture.getvalue(), headers=stranger).status_code == 404
    assert web.put(path, params={"name": "a.txt"}, content=b"text").status_code == 422


def credentials(owner: Owner) -> dict[str, tuple[str, int, str]]:
    """What may be shown instead of a good token, and the status and kind that it gets."""
    worker = issue_token(owner.user_id, scopes=["worker"]).secret.get_secret_value()
    revoked = issue_token(owner.user_id)
    revoke_token(revoked.prefix)
    subject = str(owner.user_id)
    jwts = {
        "alg none": forged({"alg": "none"}, sub=subject),
        "an expired JWT": shared(sub=subject, exp=int(time.time()) - 60),
        "a JWT of another secret": shared(sub=subject, secret="x" * 40),
        "a JWT whose algorithm is confused": forged({"alg": "RS256"}, SECRET.encode(), sub=subject),
        "a JWT of a service": shared(sub=subject, role="service_role"),
    }
    return {
        **{name: (f"Bearer {token}", 401, "authentication") for name, token in jwts.items()},
        "a revoked token": (f"Bearer {revoked.secret.get_secret_value()}", 401, "authentication"),
        "nothing": ("", 401, "authentication"),
        "another scheme": (f"Basic {owner.token}", 401, "authentication"),
        "an unknown token": ("Bearer utk_0123456789_x", 401, "authentication"),
        "a token without the scope": (f"Bearer {worker}", 403, "authorization"),
        "somebody else": (f"Bearer {make_owner().token}", 404, "not_found"),
        "somebody else's JWT": (f"Bearer {shared(sub=str(uuid4()))}", 404, "not_found"),
    }


OPEN = {("GET", "/health"), ("GET", "/v1/types"), ("GET", "/v1/types/{name}")}
"""The calls that tell nobody's things."""


def calls(owner: Owner) -> dict[tuple[str, str], dict[str, Any]]:
    """Every call for somebody's things, and what it sends besides its path."""
    travels = travel(owner)
    return {
        ("POST", "/v1/quotes"): {"json": travels},
        ("POST", "/v1/tasks"): {"json": travels},
        ("POST", "/v1/tasks/batch"): {"json": {"requests": [travels]}},
        ("GET", "/v1/tasks"): {"params": {"project_id": str(owner.project_id)}},
        ("GET", "/v1/tasks/{task_id}"): {},
        ("GET", "/v1/tasks/{task_id}/events"): {},
        ("GET", "/v1/tasks/{task_id}/tree"): {},
        ("POST", "/v1/tasks/{task_id}/cancel"): {},
        ("POST", "/v1/tasks/{task_id}/retry"): {},
        ("GET", "/v1/batches/{batch_id}"): {},
        ("POST", "/v1/batches/{batch_id}/cancel"): {},
        ("GET", "/v1/generations/{generation_id}/history"): {},
        ("GET", "/v1/media-url"): {"params": {"location": f"unitask://{owner.project_id}/uploads/a.png"}},
        ("GET", "/v1/projects/{project_id}/events"): {},
        ("PUT", "/v1/projects/{project_id}/media"): {"params": {"name": "a.png"}, "content": b"\x89PNG\r\n\x1a\n"},
    }


def test_every_call_is_refused_when_the_credential_is_not_good(web: httpx.Client, owner: Owner) -> None:
    task_id = web.post("/v1/tasks", json=travel(owner)).json()["task_id"]
    ids = {"task_id": task_id, "batch_id": task_id, "generation_id": task_id, "project_id": str(owner.project_id)}
    tried = calls(owner)
    schema = web.get("/openapi.json").json()["paths"]
    there = {(method.upper(), path) for path, methods in schema.items() for method in methods}
    assert set(tried) == there - OPEN, "a call is not tried here, or is gone"
    for credential, (value, status, kind) in credentials(owner).items():
        for (method, path), more in tried.items():
            answer = web.request(method, path.format(**ids), headers={"Authorization": value}, **more)
            if (method, path, status) == ("GET", "/v1/tasks", 404):
                assert answer.json() == [], "a list of what is somebody else's is empty, as that of a missing project"
                continue
            assert (answer.status_code, answer.json()["error"]["kind"]) == (status, kind), (credential, method, path)
            assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    assert stored() == 1


def sent(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events of a stream, each with its `id`, `event` and `data`."""
    event: dict[str, Any] = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            event[name] = json.loads(value) if name == "data" else value
        elif event:
            yield event
            event = {}


def test_stream_tells_a_task_to_its_end_and_resumes_when_it_is_cut(web: httpx.Client, owner: Owner) -> None:
    task_id = web.post("/v1/tasks", json=travel(owner)).json()["task_id"]
    path = f"/v1/tasks/{task_id}/events"
    with web.stream("GET", path) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        first = next(sent(answer))
    assert (first["event"], first["data"]["task_id"], first["data"]["id"]) == ("created", task_id, int(first["id"]))
    web.post(f"/v1/tasks/{task_id}/cancel")
    with web.stream("GET", path, headers={"Last-Event-ID": first["id"]}) as answer:
        assert [event["event"] for event in sent(answer)] == ["cancelled"]
    with web.stream("GET", path) as answer:
        assert [event["event"] for event in sent(answer)] == ["created", "cancelled"]
    assert web.get(path, params={"after": -1}).status_code == 422


def test_stream_tells_of_all_tasks_when_a_project_is_followed(web: httpx.Client, owner: Owner) -> None:
    before = web.post("/v1/tasks", json=travel(owner)).json()["task_id"]
    path = f"/v1/projects/{owner.project_id}/events"
    with web.stream("GET", path) as answer:
        made = web.post("/v1/tasks", json=travel(owner)).json()["task_id"]
        assert next(sent(answer))["data"]["task_id"] == made
    with web.stream("GET", path, params={"after": 0}) as answer:
        assert next(sent(answer))["data"]["task_id"] == before


def test_batch_is_counted_and_ended_when_it_is_named_by_a_task_of_it(web: httpx.Client, owner: Owner) -> None:
    made = web.post("/v1/tasks/batch", json={"requests": [travel(owner)] * 2}).json()
    ids = {task["task_id"] for task in made}
    path = f"/v1/batches/{made[0]['task_id']}"
    assert web.get(path).json()["by_status"] == {"Pending": {"tasks": 2, "cost": "0"}}
    assert set(web.post(f"{path}/cancel").json()) == ids
    assert web.get(path).json()["by_status"] == {"Cancelled": {"tasks": 2, "cost": "0"}}


def test_quote_is_what_the_task_is_made_for_when_nothing_was_stored(web: httpx.Client, owner: Owner) -> None:
    quote = web.post("/v1/quotes", json=travel(owner)).json()
    assert stored() == 0
    assert quote == web.post("/v1/tasks", json=travel(owner)).json()["quote"]


def test_every_project_is_open_when_the_service_key_is_shown(
    web: httpx.Client, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_SERVICE_KEY", "the key of the service")
    get_settings.cache_clear()
    task_id = web.post("/v1/tasks", json=travel(owner)).json()["task_id"]
    key = {"Authorization": "Bearer the key of the service"}
    assert web.get(f"/v1/tasks/{task_id}", headers=key).status_code == 200
    assert web.post("/v1/tasks", json=travel(make_owner()), headers=key).status_code == 201
    assert web.get(f"/v1/tasks/{task_id}", headers={"Authorization": f"{key['Authorization']}."}).status_code == 401


def test_service_lends_nobody_its_own_token_when_none_is_shown(web: httpx.Client, owner: Owner) -> None:
    assert get_settings().token is not None
    assert web.get("/v1/tasks", headers={"Authorization": ""}).status_code == 401


def test_body_is_refused_in_one_shape_when_it_is_wrong(web: httpx.Client, owner: Owner) -> None:
    wrong: list[tuple[bytes, int, str | None]] = [
        (b"{", 422, None),
        (b"[]", 422, None),
        (json.dumps(travel(owner) | {"project_id": "x"}).encode(), 422, "project_id"),
        (json.dumps(travel(owner) | {"task_type": "travel"}).encode(), 422, "task_type"),
        (b" " * (REQUEST_BYTES + 1), 413, None),
    ]
    for content, status, field in wrong:
        answer = web.post("/v1/tasks", content=content, headers={"Content-Type": "application/json"})
        error = answer.json()["error"]
        assert (answer.status_code, error["field"] if field else None) == (status, field)
        assert error["message"]


def test_body_is_refused_when_it_has_no_length_and_never_ends(web: httpx.Client) -> None:
    endless = (b" " * (1 << 20) for _ in range((REQUEST_BYTES >> 20) + 1))
    assert web.post("/v1/tasks", content=endless, headers={"Content-Type": "application/json"}).status_code == 413


def test_caller_hears_when_to_come_back_when_it_called_too_often(
    web: httpx.Client, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_CREATE_CALLS_PER_MINUTE", "1")
    get_settings.cache_clear()
    assert web.post("/v1/tasks", json=travel(owner)).is_success
    answer = web.post("/v1/tasks", json=travel(owner))
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 60


def test_database_is_not_described_when_it_is_away(
    web: httpx.Client, owner: Owner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UNITASK_DATABASE_URL", f"postgresql+psycopg://somebody:hunter2@/x?host={tmp_path}")
    get_settings.cache_clear()
    forget_engine()
    answer = web.get("/v1/tasks")
    assert answer.status_code == 503
    assert "hunter2" not in answer.text
    assert str(tmp_path) not in answer.text


def test_pages_may_call_only_when_their_origin_is_listed(web: httpx.Client) -> None:
    for origin, allowed in (("https://app.example.com", True), ("https://evil.example.com", False)):
        answer = web.get("/health", headers={"Origin": origin})
        assert (answer.headers.get("access-control-allow-origin") == origin) is allowed


def test_schema_describes_every_field_when_a_type_is_asked_for(web: httpx.Client) -> None:
    names = [found["name"] for found in web.get("/v1/types").json()]
    assert "travel_orchestrator" in names
    assert "travel_segment" not in names
    schema = web.get("/v1/types/travel_orchestrator").json()
    assert all(definition.get("description") for definition in schema["properties"].values())
    assert web.get("/v1/types/travels").json()["error"]["message"].endswith("?")
