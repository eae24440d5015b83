"""The adapters against exchanges as the providers' public documentation prints them, over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from tasks_lib.errors import ProviderError, RateLimitError
from tasks_lib.providers.base import Status, Work
from tasks_lib.providers.fal import Fal
from tasks_lib.providers.http import Ambiguous, Http, retry_after
from tasks_lib.providers.replicate import Replicate
from tasks_lib.settings import Settings

VERSION = "5c7d5dc6dd8bf75c1acaa8565735e7986bc5b66206b55cca93cb72c9bf15ccaa"
ID = "gm3qorzdhgbfurvjtvhg6dckhu"
STARTING = {
    "id": ID,
    "model": "replicate/hello-world",
    "version": VERSION,
    "input": {"text": "Alice"},
    "logs": "",
    "error": None,
    "status": "starting",
    "created_at": "2023-09-08T16:19:34.765994Z",
    "urls": {"get": f"https://api.replicate.com/v1/predictions/{ID}"},
}
SUCCEEDED = {**STARTING, "status": "succeeded", "output": "hello Alice", "metrics": {"predict_time": 0.012683}}
HELLO = Work(f"replicate/hello-world:{VERSION}", {"text": "Alice"})

REQUEST = "80e732af-660e-45cd-bd63-580e4f2a94cc"
SDXL = Work("fal-ai/fast-sdxl/image-to-image", {"prompt": "a cat"})
APP = f"/fal-ai/fast-sdxl/requests/{REQUEST}"
IMAGES = {"images": [{"url": "https://url.to/image.png", "content_type": "image/png"}]}

Exchange = tuple[str, int, Any]
"""What is asked (method and path), and the status and body of the answer."""


@asynccontextmanager
async def speaking(*exchanges: Exchange, scheme: str = "Bearer") -> AsyncIterator[tuple[Http, list[dict[str, Any]]]]:
    """A client of a server that answers exactly these requests, in this order; and the bodies that it was sent."""
    left = list(exchanges)
    sent: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line[15:]) for line in head.lower().splitlines() if line.startswith("content-length:")), 0)
        body = await reader.readexactly(length)
        expected, status, answer = left.pop(0)
        assert " ".join(head.split(" ")[:2]) == expected
        assert f"authorization: {scheme} the-key".lower() in head.lower()
        sent.append(json.loads(body) if body else {})
        text = json.dumps(answer).encode()
        writer.write(
            f"HTTP/1.1 {status} OK\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, Http(url, SecretStr("the-key"), scheme, Settings(provider_wait_seconds=0.01)) as http:
        yield http, sent
    assert not left


def talk(use: Callable[[Http], Awaitable[Any]], *exchanges: Exchange, scheme: str = "Bearer") -> tuple[Any, list[Any]]:
    """What a call of an adapter answers, and what it sent."""

    async def main() -> tuple[Any, list[Any]]:
        async with speaking(*exchanges, scheme=scheme) as (http, sent):
            return await use(http), sent

    return asyncio.run(main())


def test_prediction_is_created_looked_at_and_cancelled_when_replicate_answers_as_documented() -> None:
    r = Replicate()
    found, sent = talk(lambda h: r.submit(h, HELLO, "key", None), ("POST /v1/predictions", 201, STARTING))
    assert (found, sent) == (ID, [{"version": VERSION, "input": {"text": "Alice"}}])
    look = f"GET /v1/predictions/{ID}"
    assert talk(lambda h: r.status(h, HELLO.model, ID), (look, 200, STARTING))[0].state == "running"
    done, _ = talk(lambda h: r.status(h, HELLO.model, ID), (look, 200, SUCCEEDED))
    assert done == Status("succeeded", output="hello Alice", message="succeeded", seconds=0.012683)
    cancelled = {**STARTING, "status": "canceled"}
    talk(lambda h: r.cancel(h, HELLO.model, ID), (f"POST /v1/predictions/{ID}/cancel", 200, cancelled))
    assert talk(lambda h: r.status(h, HELLO.model, ID), (look, 200, cancelled))[0].state == "cancelled"
    assert talk(lambda h: r.status(h, HELLO.model, ID), (look, 404, {"detail": "x"}))[0].state == "lost"


def test_prediction_goes_to_the_model_when_it_is_an_official_one() -> None:
    work = Work("black-forest-labs/flux-kontext-pro", {"prompt": "a cat"})
    path = "POST /v1/models/black-forest-labs/flux-kontext-pro/predictions"
    _, sent = talk(lambda h: Replicate().submit(h, work, "key", "https://us.example/hook"), (path, 201, STARTING))
    hook = {"webhook": "https://us.example/hook", "webhook_events_filter": ["completed"]}
    assert sent == [{"input": {"prompt": "a cat"}, **hook}]


SINCE = datetime(2023, 9, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rows", "work", "found"),
    [
        ([STARTING], HELLO, ID),
        ([{**STARTING, "input": {"text": "Bob"}}, STARTING], HELLO, ID),
        ([{**STARTING, "version": "another"}], HELLO, None),
        ([{**STARTING, "created_at": "2023-09-07T00:00:00Z"}], HELLO, None),
        ([{**STARTING, "id": "taken"}], HELLO, None),
        ([], HELLO, None),
    ],
)
def test_lost_submission_is_found_when_the_list_has_it(
    rows: list[dict[str, Any]], work: Work, found: str | None
) -> None:
    answer = {"previous": None, "next": None, "results": rows}
    find = Replicate().find
    assert talk(lambda h: find(h, work, SINCE, {"taken"}), ("GET /v1/predictions", 200, answer))[0] == found


@pytest.mark.parametrize(
    ("row", "work"),
    [
        ({**STARTING, "data_removed": True}, HELLO),
        (
            {**STARTING, "input": {"text": "Alice", "image": "https://a"}},
            Work(HELLO.model, {"text": "Alice", "image": "https://b"}, frozenset({"image"})),
        ),
    ],
)
def test_lost_submission_is_ambiguous_when_the_list_cannot_tell(row: dict[str, Any], work: Work) -> None:
    with pytest.raises(Ambiguous):
        talk(lambda h: Replicate().find(h, work, SINCE, set()), ("GET /v1/predictions", 200, {"results": [row]}))


def test_request_is_queued_looked_at_and_cancelled_when_fal_answers_as_documented() -> None:
    f = Fal()
    queued = {"request_id": REQUEST, "response_url": f"https://queue.fal.run{APP}"}
    found, sent = talk(
        lambda h: f.submit(h, SDXL, "key", None), ("POST /fal-ai/fast-sdxl/image-to-image", 200, queued), scheme="Key"
    )
    assert (found, sent) == (REQUEST, [{"prompt": "a cat"}])

    def status(*exchanges: Exchange) -> Any:
        return talk(lambda h: f.status(h, SDXL.model, REQUEST), *exchanges, scheme="Key")[0]

    waiting = {"status": "IN_QUEUE", "queue_position": 0, "response_url": f"https://queue.fal.run{APP}"}
    assert status((f"GET {APP}/status", 200, waiting)) == Status("running", message="IN_QUEUE")
    done = {"status": "COMPLETED", "logs": [], "metrics": {"inference_time": 3.7}}
    assert status((f"GET {APP}/status", 200, done), (f"GET {APP}", 200, IMAGES)) == Status(
        "succeeded", output=IMAGES, seconds=3.7
    )
    refused = {"detail": [{"loc": ["body", "prompt"], "msg": "field required", "type": "value_error.missing"}]}
    failed = status((f"GET {APP}/status", 200, done), (f"GET {APP}", 422, refused))
    assert (failed.state, failed.error) == ("failed", "422: field required")
    for code, word in ((202, "CANCELLATION_REQUESTED"), (400, "ALREADY_COMPLETED"), (404, "NOT_FOUND")):
        answer = (f"PUT {APP}/cancel", code, {"status": word})
        talk(lambda h: f.cancel(h, SDXL.model, REQUEST), answer, scheme="Key")


def test_answer_without_a_job_is_ambiguous_when_it_is_no_refusal() -> None:
    for status, body in ((500, {}), (504, {}), (200, {"id": "../../elsewhere"}), (200, {})):
        with pytest.raises(Ambiguous):
            talk(lambda h: Replicate().submit(h, HELLO, "key", None), ("POST /v1/predictions", status, body))
    with pytest.raises(ProviderError, match="Invalid version") as refused:
        talk(
            lambda h: Replicate().submit(h, HELLO, "key", None),
            ("POST /v1/predictions", 422, {"title": "Invalid version", "detail": ""}),
        )
    assert not refused.value.retryable


def test_call_is_left_for_later_when_the_provider_asks_for_more_than_we_wait() -> None:
    with pytest.raises(RateLimitError) as limited:
        talk(lambda h: Replicate().submit(h, HELLO, "key", None), ("POST /v1/predictions", 429, {}))
    assert limited.value.retryable


def test_pause_is_read_when_it_is_given_in_seconds_or_as_a_date() -> None:
    assert retry_after("7") == 7
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("soon") is None
    assert retry_after(None) is None
