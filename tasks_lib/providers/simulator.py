"""A provider of one's own: an HTTP server that speaks as Replicate and as fal do, and misbehaves on command.

It makes nothing but a small picture or clip. It keeps a log of every job, which is how tests know what was paid for.
Faults are set in Python (`Simulator.fault`) or by `POST /_sim/faults` with the same names; `GET /_sim/jobs` is the log.
"""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

from tasks_lib.media.video import write_video

Call = Literal["submit", "status", "answer", "file", "cancel", "list"]
Fault = Literal[
    "429", "500", "401", "slow_headers", "slow_body", "cut", "cut_before", "html", "gone", "lost", "never", "failed"
]
PAGE = 100


@dataclass
class SimJob:
    """One job as the provider's books have it."""

    id: str
    dialect: str
    model: str
    input: dict[str, Any]
    key: str
    webhook: str | None
    created: float
    ends: float
    cancelled: bool = False
    failed: bool = False
    looks: int = 0

    @property
    def running(self) -> bool:
        """Whether it is being worked on, and so paid for."""
        return not self.cancelled and time.time() < self.ends


@dataclass
class _Order:
    call: Call
    kind: Fault
    times: int
    seconds: float | None
    prompt: str | None


@dataclass
class _Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class _Answer:
    status: int
    body: bytes
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


class Simulator:
    """The books and manners of the simulated provider. `latency` is how many seconds a job takes."""

    def __init__(self, latency: float = 0.0, late_cost: int = 0) -> None:
        self.latency = latency
        self.late_cost = late_cost
        """At how many looks after the end of a job its time is not known yet."""
        self.jobs: dict[str, SimJob] = {}
        self.calls: list[tuple[str, str]] = []
        self._most: dict[str, int] = {}
        self.url = ""
        self._orders: list[_Order] = []

    def fault(
        self, call: Call, kind: Fault, times: int = 1, seconds: float | None = None, prompt: str | None = None
    ) -> None:
        """Misbehave at the next `times` calls of a kind; `seconds` is the delay, or what `Retry-After` says.

        With `prompt`, only at calls about jobs that were submitted with that prompt.
        """
        self._orders.append(_Order(call, kind, times, seconds, prompt))

    def most(self, dialect: str) -> int:
        """How many jobs of a dialect have been running at once at the most."""
        return self._most.get(dialect, 0)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._answer(await _read(reader), writer):
                    pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, request: _Request, writer: asyncio.StreamWriter) -> bool:
        """Answer one request, or cut the connection and say so by False."""
        call = _call_of(request)
        order = self._next(call, self._prompt(request))
        self.calls.append((call or "other", request.path))
        if order and order.kind == "cut_before":
            return False
        answer = self._turn_away(order) or self._serve(request, order)
        if order and order.kind == "cut":
            return False
        await _write(writer, answer, order)
        return True

    def _prompt(self, request: _Request) -> str | None:
        if _call_of(request) == "submit":
            body = json.loads(request.body)
            return str(body.get("input", body).get("prompt"))
        named = (self.jobs.get(part.partition(".")[0]) for part in request.path.split("/"))
        return next((str(job.input.get("prompt")) for job in named if job), None)

    def _next(self, call: Call | None, prompt: str | None) -> _Order | None:
        for order in self._orders:
            if order.call == call and order.times and order.prompt in (None, prompt):
                order.times -= 1
                return order
        return None

    @staticmethod
    def _turn_away(order: _Order | None) -> _Answer | None:
        if order is None or order.kind not in ("429", "500", "gone", "html"):
            return None
        if order.kind == "html":
            return _Answer(200, b"<html><body>We will be back soon.</body></html>", "text/html")
        status = {"429": 429, "500": 500, "gone": 404}[order.kind]
        wait = {} if order.kind != "429" or order.seconds is None else {"Retry-After": f"{order.seconds:g}"}
        return _Answer(status, b'{"detail": "on command"}', headers=wait)

    def _serve(self, request: _Request, order: _Order | None) -> _Answer:
        parts = request.path.strip("/").split("/")
        if parts[0] == "_sim":
            return self._control(request)
        if parts[0] == "files":
            return _file(parts[-1])
        if not request.headers.get("authorization") or (order and order.kind == "401"):
            # Unkind, and seen in the wild.
            return _json({"detail": f"no access with {request.headers.get('authorization')}"}, 401)
        dialect = self._replicate if parts[0] == "v1" else self._fal
        return dialect(request, parts, order)

    def _control(self, request: _Request) -> _Answer:
        if request.method == "POST":
            self.fault(**json.loads(request.body))
        return _json([asdict(job) for job in self.jobs.values()])

    def _new(self, request: _Request, dialect: str, model: str, given: dict[str, Any], webhook: str | None) -> SimJob:
        now = time.time()
        key = request.headers.get("idempotency-key", "")
        job = SimJob(uuid.uuid4().hex, dialect, model, given, key, webhook, now, now + self.latency)
        self.jobs[job.id] = job
        running = sum(other.running and other.dialect == dialect for other in self.jobs.values())
        self._most[dialect] = max(running, self.most(dialect))
        return job

    def _looked_at(self, job_id: str, order: _Order | None) -> SimJob | None:
        job = self.jobs.get(job_id)
        if job is None or (order and order.kind == "lost"):
            return None
        if order and order.kind == "never":
            job.ends = float("inf")
        if order and order.kind == "failed":
            job.failed, job.ends = True, 0
        job.looks += not job.running
        return job

    def _replicate(self, request: _Request, parts: list[str], order: _Order | None) -> _Answer:
        if request.method == "POST" and parts[-1] == "predictions":
            body = json.loads(request.body)
            model = body.get("version") or "/".join(parts[2:4])
            job = self._new(request, "replicate", model, body["input"], body.get("webhook"))
            return _json(self._prediction(job), 201)
        if request.method == "GET" and parts[-1] == "predictions":
            start = int(request.query.get("cursor", ["0"])[0])
            rows = sorted(self.jobs.values(), key=lambda job: -job.created)[start : start + PAGE]
            following = f"{self.url}/v1/predictions?cursor={start + PAGE}" if len(rows) == PAGE else None
            return _json({"results": [self._prediction(job) for job in rows], "next": following})
        cancel = parts[-1] == "cancel"
        found = self._looked_at(parts[2], order)
        if found is None:
            return _json({"detail": "not found"}, 404)
        if cancel:
            found.cancelled = found.cancelled or found.running
        return _json(self._prediction(found))

    def _prediction(self, job: SimJob) -> dict[str, Any]:
        state = (
            "processing" if job.running else "canceled" if job.cancelled else "failed" if job.failed else "succeeded"
        )
        told = not job.running and job.looks > self.late_cost
        return {
            "id": job.id,
            "model": job.model,
            "version": job.model,
            "input": job.input,
            "status": state,
            "error": "made to fail" if job.failed else None,
            "output": self._output(job) if state == "succeeded" else None,
            "created_at": datetime.fromtimestamp(job.created, UTC).isoformat().replace("+00:00", "Z"),
            "metrics": {"predict_time": self.latency} if told else {},
        }

    def _fal(self, request: _Request, parts: list[str], order: _Order | None) -> _Answer:
        if request.method == "POST":
            job = self._new(
                request, "fal", "/".join(parts), json.loads(request.body), request.query.get("fal_webhook", [None])[0]
            )
            return _json({"request_id": job.id, "status": "IN_QUEUE", "queue_position": 0})
        found = self._looked_at(parts[parts.index("requests") + 1], order)
        if found is None:
            return _json({"detail": "Request not found"}, 404)
        if parts[-1] == "cancel":
            word, status = ("CANCELLATION_REQUESTED", 202) if found.running else ("ALREADY_COMPLETED", 400)
            found.cancelled = found.cancelled or found.running
            return _json({"status": word}, status)
        if parts[-1] == "status":
            told = not found.running and found.looks > self.late_cost
            cancelled = {"error": "Request cancelled", "error_type": "request_cancelled"} if found.cancelled else {}
            word = "IN_PROGRESS" if found.running else "COMPLETED"
            return _json({"status": word, "metrics": {"inference_time": self.latency} if told else {}, **cancelled})
        if found.running or found.cancelled or found.failed:
            return _json({"detail": [{"msg": "made to fail", "loc": ["body"]}]}, 422)
        key = "video" if _is_film(found) else "images"
        output: Any = {"url": self._output(found)}
        return _json({key: output if key == "video" else [output]})

    def _output(self, job: SimJob) -> str:
        return f"{self.url}/files/{job.id}.{'mp4' if _is_film(job) else 'png'}"

    @contextmanager
    def serving(self, port: int = 0) -> Iterator[Simulator]:
        """Serve in a thread of its own; `url` says where."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="provider-sim", daemon=True)
        thread.start()
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self.handle, "127.0.0.1", port), loop).result(10)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(_close(server), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()


async def _close(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _call_of(request: _Request) -> Call | None:
    last = request.path.rstrip("/").rsplit("/", 1)[-1]
    if request.path.startswith("/_sim"):
        return None
    if request.path.startswith("/files"):
        return "file"
    if last == "cancel":
        return "cancel"
    if request.method == "POST":
        return "submit"
    if last == "predictions":
        return "list"
    return "status" if last == "status" or request.path.startswith("/v1") else "answer"


def _is_film(job: SimJob) -> bool:
    return "video" in job.model or "animate" in job.model


def _json(value: Any, status: int = 200) -> _Answer:
    return _Answer(status, json.dumps(value).encode())


def _file(name: str) -> _Answer:
    return _Answer(200, _clip(), "video/mp4") if name.endswith(".mp4") else _Answer(200, _picture(), "image/png")


@cache
def _picture() -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(7).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@cache
def _clip() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        frames = (np.full((64, 64, 3), 20 * i, np.uint8) for i in range(9))
        write_video(path, frames, 16, lossless=False)
        return path.read_bytes()


async def _read(reader: asyncio.StreamReader) -> _Request:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    url = urlsplit(target)
    return _Request(method, url.path, parse_qs(url.query), headers, body)


async def _write(writer: asyncio.StreamWriter, answer: _Answer, order: _Order | None) -> None:
    slow = order.seconds or 5.0 if order and order.kind.startswith("slow") else 0.0
    if order and order.kind == "slow_headers":
        await asyncio.sleep(slow)
    headers = {"Content-Type": answer.kind, "Content-Length": str(len(answer.body)), **answer.headers}
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", *(f"{n}: {v}" for n, v in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    if order and order.kind == "slow_body":
        for byte in answer.body[:-1]:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(slow / len(answer.body))
        writer.write(answer.body[-1:])
    else:
        writer.write(answer.body)
    await writer.drain()
