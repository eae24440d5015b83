"""A provider of one's own: an HTTP server that speaks as Replicate and as fal do, and misbehaves on command.

It makes nothing but a small picture or clip. It keeps a log of every job, which is how tests know what was paid for.
Faults are set in Python (`Simulator.fault`) or by `POST /_sim/faults` with the same names; `GET /_sim/jobs` is the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from tasks_lib.providers.simulator.books import Call, Fault, Order, SimJob
from tasks_lib.providers.simulator.results import file_answer
from tasks_lib.providers.simulator.webhooks import Webhooks
from tasks_lib.providers.simulator.wire import Answer, Request, json_answer, read, write

PAGE = 100


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
        self.uploads: list[int] = []
        """How many bytes each uploaded file had, with the form around it."""
        self.webhooks = Webhooks()
        self._orders: list[Order] = []
        self._telling: set[asyncio.Task[None]] = set()

    def fault(
        self, call: Call, kind: Fault, times: int = 1, seconds: float | None = None, prompt: str | None = None
    ) -> None:
        """Misbehave at the next `times` calls of a kind; `seconds` is the delay, or what `Retry-After` says.

        With `prompt`, only at calls about jobs that were submitted with that prompt.
        """
        self._orders.append(Order(call, kind, times, seconds, prompt))

    def most(self, dialect: str) -> int:
        """How many jobs of a dialect have been running at once at the most."""
        return self._most.get(dialect, 0)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._answer(await read(reader), writer):
                    pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer one request, or cut the connection and say so by False."""
        call = _call_of(request)
        order = self._next(call, self._prompt(request))
        self.calls.append((call or "other", request.path))
        if order and order.kind == "cut_before":
            return False
        answer = self._turn_away(order) or self._serve(request, order)
        if order and order.kind == "cut":
            return False
        await write(writer, answer, order)
        return True

    def _prompt(self, request: Request) -> str | None:
        if _call_of(request) == "submit":
            body = json.loads(request.body)
            return str(body.get("input", body).get("prompt"))
        named = (self.jobs.get(part.partition(".")[0]) for part in request.path.split("/"))
        return next((str(job.input.get("prompt")) for job in named if job), None)

    def _next(self, call: Call | None, prompt: str | None) -> Order | None:
        for order in self._orders:
            if order.call == call and order.times and order.prompt in (None, prompt):
                order.times -= 1
                return order
        return None

    @staticmethod
    def _turn_away(order: Order | None) -> Answer | None:
        if order is None or order.kind not in ("429", "500", "gone", "html"):
            return None
        if order.kind == "html":
            return Answer(200, b"<html><body>We will be back soon.</body></html>", "text/html")
        status = {"429": 429, "500": 500, "gone": 404}[order.kind]
        wait = {} if order.kind != "429" or order.seconds is None else {"Retry-After": f"{order.seconds:g}"}
        return Answer(status, b'{"detail": "on command"}', headers=wait)

    def _serve(self, request: Request, order: Order | None) -> Answer:
        parts = request.path.strip("/").split("/")
        if parts[0] == "_sim":
            return self._control(request)
        if parts[0] == "files":
            return file_answer(parts[-1])
        if parts[0] == ".well-known":
            return json_answer(self.webhooks.jwks)
        if not request.headers.get("authorization") or (order and order.kind == "401"):
            # Unkind, and seen in the wild.
            return json_answer({"detail": f"no access with {request.headers.get('authorization')}"}, 401)
        dialect = self._replicate if parts[0] == "v1" else self._fal
        return dialect(request, parts, order)

    def _control(self, request: Request) -> Answer:
        if request.method == "POST":
            self.fault(**json.loads(request.body))
        return json_answer([asdict(job) for job in self.jobs.values()])

    def _new(self, request: Request, dialect: str, model: str, given: dict[str, Any], webhook: str | None) -> SimJob:
        now = time.time()
        key = request.headers.get("idempotency-key", "")
        account = hashlib.sha256(request.headers["authorization"].encode()).hexdigest()[:8]
        job = SimJob(uuid.uuid4().hex, dialect, model, given, key, account, webhook, now, now + self.latency)
        self.jobs[job.id] = job
        if webhook:
            telling = asyncio.get_running_loop().create_task(self._tell(job, webhook))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)
        running = sum(other.running and other.dialect == dialect for other in self.jobs.values())
        self._most[dialect] = max(running, self.most(dialect))
        return job

    async def _tell(self, job: SimJob, address: str) -> None:
        """Send a job's webhook when it has ended."""
        begun = self._news(job)
        while job.running:  # noqa: ASYNC110  its end may be put off, and nothing signals it
            await asyncio.sleep(min(max(0.01, job.ends - time.time()), 0.2))
        order = self._next("webhook", str(job.input.get("prompt")))
        kind = order.kind if order else ""
        if kind == "lost":
            return
        # Out of order: the news of its beginning, which is late.
        news = [self._news(job)] * (2 if kind == "twice" else 1) + [begun] * (kind == "out_of_order")
        for body in news:
            await self.webhooks.deliver(job, address, body)

    def _news(self, job: SimJob) -> dict[str, Any]:
        if job.dialect == "replicate":
            return self._prediction(job)
        payload = self._result(job) if not (job.running or job.cancelled or job.failed) else None
        ids = {"request_id": job.id, "gateway_request_id": job.id}
        return {**ids, "status": "OK" if payload else "ERROR", "payload": payload}

    def _looked_at(self, job_id: str, order: Order | None) -> SimJob | None:
        job = self.jobs.get(job_id)
        if job is None or (order and order.kind == "lost"):
            return None
        if order and order.kind == "never":
            job.ends = float("inf")
        if order and order.kind == "failed":
            job.failed, job.ends = True, 0
        job.looks += not job.running
        return job

    def _replicate(self, request: Request, parts: list[str], order: Order | None) -> Answer:
        if request.method == "POST" and parts[-1] == "predictions":
            body = json.loads(request.body)
            model = body.get("version") or "/".join(parts[2:4])
            job = self._new(request, "replicate", model, body["input"], body.get("webhook"))
            return json_answer(self._prediction(job), 201)
        if request.method == "GET" and parts[-1] == "predictions":
            start = int(request.query.get("cursor", ["0"])[0])
            rows = sorted(self.jobs.values(), key=lambda job: -job.created)[start : start + PAGE]
            following = f"{self.url}/v1/predictions?cursor={start + PAGE}" if len(rows) == PAGE else None
            return json_answer({"results": [self._prediction(job) for job in rows], "next": following})
        if parts[1] == "webhooks":
            return json_answer({"key": self.webhooks.secret})
        if parts[1] == "files":
            self.uploads.append(len(request.body))
            return json_answer(
                {"id": "upload", "urls": {"get": f"{self.url}/files/upload-{len(self.uploads)}.png"}}, 201
            )
        cancel = parts[-1] == "cancel"
        found = self._looked_at(parts[2], order)
        if found is None:
            return json_answer({"detail": "not found"}, 404)
        if cancel:
            found.cancelled = found.cancelled or found.running
        return json_answer(self._prediction(found))

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

    def _fal(self, request: Request, parts: list[str], order: Order | None) -> Answer:
        if request.method == "POST":
            job = self._new(
                request, "fal", "/".join(parts), json.loads(request.body), request.query.get("fal_webhook", [None])[0]
            )
            return json_answer({"request_id": job.id, "status": "IN_QUEUE", "queue_position": 0})
        found = self._looked_at(parts[parts.index("requests") + 1], order)
        if found is None:
            return json_answer({"detail": "Request not found"}, 404)
        if parts[-1] == "cancel":
            word, status = ("CANCELLATION_REQUESTED", 202) if found.running else ("ALREADY_COMPLETED", 400)
            found.cancelled = found.cancelled or found.running
            return json_answer({"status": word}, status)
        if parts[-1] == "status":
            told = not found.running and found.looks > self.late_cost
            cancelled = {"error": "Request cancelled", "error_type": "request_cancelled"} if found.cancelled else {}
            word = "IN_PROGRESS" if found.running else "COMPLETED"
            return json_answer(
                {"status": word, "metrics": {"inference_time": self.latency} if told else {}, **cancelled}
            )
        if found.running or found.cancelled or found.failed:
            return json_answer({"detail": [{"msg": "made to fail", "loc": ["body"]}]}, 422)
        return json_answer(self._result(found))

    def _result(self, job: SimJob) -> dict[str, Any]:
        output = {"url": self._output(job)}
        return {"video": output} if _is_film(job) else {"images": [output]}

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


def _call_of(request: Request) -> Call | None:
    last = request.path.rstrip("/").rsplit("/", 1)[-1]
    if request.path.startswith(("/_sim", "/.well-known", "/v1/webhooks", "/v1/files")):
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
