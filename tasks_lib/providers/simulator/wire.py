"""HTTP as the simulated provider speaks it: by hand, because a server that is well kept does not misbehave."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tasks_lib.providers.simulator.books import Order


@dataclass
class Request:
    """What was asked."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What is answered."""

    status: int
    body: bytes
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


def json_answer(value: Any, status: int = 200) -> Answer:
    """A value as JSON."""
    return Answer(status, json.dumps(value).encode())


async def read(reader: asyncio.StreamReader) -> Request:
    """Read one request of a connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    url = urlsplit(target)
    return Request(method, url.path, parse_qs(url.query), headers, body)


async def write(writer: asyncio.StreamWriter, answer: Answer, order: Order | None) -> None:
    """Send an answer, as slowly as ordered."""
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
