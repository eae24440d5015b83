"""Whatever one caller does, or somebody without a token, others are answered and the gateway stays small."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import sqlalchemy as sa

from tasks_lib import database
from tasks_lib.auth import issue_token, revoke_token
from tests.conftest import Owner, answers, make_owner
from tests.integration.test_cancelling_many import chain, make
from tests.races.sessions import make_tasks, wait_until
from tests.unit.auth.signing import public

LONG = "UNITASK_TEST_LONG" in os.environ
UNITASK = str(Path(sys.executable).with_name("unitask"))
LIMIT_SECONDS = 1.0 if LONG else 3.0
"""What others may wait; where all tests run at once, on two cores, the machine itself is slow."""
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(64 << 10)


@dataclass
class Gateway:
    """The process of `unitask gateway`, its address, and a login service that never answers."""

    process: psutil.Process
    port: int
    owner: Owner
    neighbour: Owner

    def client(self, token: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=30, verify=False)

    def send(self, head: str, *, token: str = "", body: bytes = b"") -> socket.socket:
        """Begin a request by hand."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        shown = f"Authorization: Bearer {token}\r\n" if token else ""
        connection.sendall(f"{head}\r\nHost: x\r\n{shown}\r\n".encode() + body)
        return connection


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def gateway(owner: Owner) -> Iterator[Gateway]:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        port = free_port()
        environment = {**os.environ, "UNITASK_JWT_JWKS_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/jwks"}
        started = subprocess.Popen([UNITASK, "gateway", "--port", str(port)], env=environment)
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"))
            yield Gateway(psutil.Process(started.pid), port, owner, make_owner("a neighbour"))
        finally:
            started.terminate()
            started.wait(30)


class Watched(threading.Thread):
    """Asks for the health and the neighbour's list, and looks at the memory, until it is stopped."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self.gateway = gateway
        self.slowest = 0.0
        self.memory = 0
        self.asked = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        with self.gateway.client(self.gateway.neighbour.token) as client:
            while not self.stopped.is_set() or not self.asked:
                for path in ("/health", "/v1/tasks"):
                    began = time.monotonic()
                    try:
                        good = client.get(path).status_code == 200
                    except httpx.HTTPError:
                        good = False
                    self.slowest = max(self.slowest, time.monotonic() - began if good else 99.0)
                self.memory = max(self.memory, self.gateway.process.memory_info().rss >> 20)
                self.asked += 1
                self.stopped.wait(0.05)


@contextmanager
def others_are_served(gateway: Gateway, attack: str) -> Iterator[None]:
    watched = Watched(gateway)
    watched.start()
    try:
        yield
    finally:
        watched.stopped.set()
        watched.join()
    print(f"\n{attack}: slowest {watched.slowest:.2f} s of {watched.asked}, memory {watched.memory} MiB")
    assert watched.slowest < LIMIT_SECONDS
    assert watched.memory < 512


def test_others_are_served_when_many_watch_and_a_transaction_is_open_elsewhere(gateway: Gateway) -> None:
    elsewhere = sa.create_engine(sa.make_url(database.database_url()).set(database="postgres"))
    path = f"GET /v1/projects/{gateway.owner.project_id}/events HTTP/1.1"
    with elsewhere.connect() as idle, ExitStack() as watches, others_are_served(gateway, "45 watches"):
        idle.execute(sa.text("SELECT pg_current_xact_id()"))
        opened = [watches.enter_context(gateway.send(path, token=gateway.owner.token)) for _ in range(45)]
        assert all(b" 200 " in watch.recv(4096) for watch in opened)
        (task,) = make_tasks(gateway.owner)
        assert all(str(task).encode() in told(watch, b"created") for watch in opened)
    elsewhere.dispose()


def told(watch: socket.socket, word: bytes) -> bytes:
    found = b""
    while word not in found or b"\n\n" not in found.partition(word)[2]:
        part = watch.recv(4096)
        assert part, "the stream ended"
        found += part
    return found


def test_watch_is_refused_in_time_and_others_are_served_when_tasks_are_written_for_long(gateway: Gateway) -> None:
    with database.get_engine().connect() as writing, others_are_served(gateway, "a long write"):
        writing.execute(
            sa.text(
                "INSERT INTO task_events (project_id, task_id, kind, data) VALUES "
                "(gen_random_uuid(), gen_random_uuid(), 'created', '{}')"
            )
        )
        with gateway.client(gateway.owner.token) as client, ThreadPoolExecutor(20) as pool:
            path = f"/v1/projects/{gateway.owner.project_id}/events"
            for answer in pool.map(lambda _: client.get(path), range(20)):
                assert answer.status_code == 503
                assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("framing", ["Content-Length: 32505856", "Transfer-Encoding: chunked"])
def test_body_is_not_read_when_it_comes_without_a_token(gateway: Gateway, framing: str) -> None:
    def attack(_: int) -> bytes:
        with gateway.send(
            f"POST /v1/tasks/batch HTTP/1.1\r\nContent-Type: application/json\r\n{framing}"
        ) as connection:
            part = b"[" + b"[]," * ((1 << 20) // 3)
            try:
                for _ in range(31):
                    connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n" if "chunked" in framing else part)
            except ConnectionError:
                pass  # the gateway has closed it
            else:
                pytest.fail("all of the body was taken")
            try:
                return connection.recv(4096)
            except ConnectionError:
                return b" 401 "

    with others_are_served(gateway, f"four bodies, {framing}"), ThreadPoolExecutor(4) as pool:
        assert all(b" 401 " in answer for answer in pool.map(attack, range(4)))


def test_others_are_served_when_large_bodies_come_with_a_token(gateway: Gateway) -> None:
    bodies = [b'{"requests": [' + b"{}," * 120_000 + b"{}]}", b'{"requests": [' + b"[]," * (1 << 20) + b"[]]}"]

    def attack(i: int) -> int:
        with gateway.client(gateway.owner.token) as client:
            headers = {"Content-Type": "application/json"}
            return client.post("/v1/tasks/batch", content=bodies[i % 2], headers=headers).status_code

    with others_are_served(gateway, "large bodies with a token"), ThreadPoolExecutor(4) as pool:
        assert set(pool.map(attack, range(4))) <= {413, 422, 503}


def test_others_are_served_when_the_login_service_hangs(gateway: Gateway) -> None:
    def attack(i: int) -> int:
        with gateway.client(public(kid=f"unknown {i}")) as client:
            return client.get("/v1/tasks").status_code

    with others_are_served(gateway, "unknown keys"), ThreadPoolExecutor(40) as pool:
        assert set(pool.map(attack, range(40))) == {401}


def test_others_are_served_when_uploads_are_slow(gateway: Gateway) -> None:
    path = f"PUT /v1/projects/{gateway.owner.project_id}/media?name=a.png HTTP/1.1\r\nContent-Length: 1000000"
    with ExitStack() as uploads, others_are_served(gateway, "slow uploads"):
        begun = [uploads.enter_context(gateway.send(path, token=gateway.owner.token, body=PICTURE)) for _ in range(60)]
        refused = sum(b" 503 " in answer_of(upload) for upload in begun)
        assert refused == len(begun) - 2, "two at once are taken from a user"
        for upload in begun:
            upload.close()


def answer_of(connection: socket.socket) -> bytes:
    connection.settimeout(1)
    try:
        return connection.recv(4096)
    except (TimeoutError, ConnectionError):
        return b""


def test_upload_is_refused_before_it_is_read_when_it_is_not_allowed(gateway: Gateway) -> None:
    reader, worker = (
        issue_token(gateway.owner.user_id, scopes=scopes).secret.get_secret_value()
        for scopes in (["tasks:read"], ["worker"])
    )
    mine, foreign = gateway.owner.project_id, gateway.neighbour.project_id
    tried = [("", mine, 401), (reader, mine, 403), (worker, mine, 403), (gateway.owner.token, foreign, 404)]
    for token, project, status in tried:
        head = f"PUT /v1/projects/{project}/media?name=a.png HTTP/1.1\r\nContent-Length: {1 << 31}"
        with gateway.send(head, token=token) as connection:
            assert f" {status} ".encode() in connection.recv(4096), "answered though nothing of the body has come"


@pytest.mark.parametrize("name", ["a\0.png", "ä" * 196 + ".png", "../a.png", "a\n.png"])
def test_upload_is_answered_when_its_name_is_odd(gateway: Gateway, name: str) -> None:
    with gateway.client(gateway.owner.token) as client:
        path = f"/v1/projects/{gateway.owner.project_id}/media"
        assert client.put(path, params={"name": name}, content=PICTURE).status_code == 201


def test_stream_is_refused_when_its_beginning_is_no_event(gateway: Gateway) -> None:
    (task,) = make_tasks(gateway.owner)
    with gateway.client(gateway.owner.token) as client:
        for path in (f"/v1/tasks/{task}/events", f"/v1/projects/{gateway.owner.project_id}/events"):
            for after in (1 << 63, 10**30):
                assert client.get(path, params={"after": after}).status_code == 422
                assert client.get(path, headers={"Last-Event-ID": str(after)}).status_code == 422


def test_stream_ends_soon_when_its_token_is_revoked(gateway: Gateway) -> None:
    token = issue_token(gateway.owner.user_id)
    path = f"GET /v1/projects/{gateway.owner.project_id}/events HTTP/1.1"
    with gateway.send(path, token=token.secret.get_secret_value()) as stream:
        assert b" 200 " in stream.recv(4096)
        revoke_token(token.prefix)
        stream.settimeout(5)
        assert b"authentication" in told(stream, b"error")


def test_refused_calls_count_when_they_are_wrong(gateway: Gateway) -> None:
    with gateway.client(gateway.owner.token) as client:
        json = {"Content-Type": "application/json"}
        calls: dict[str, Callable[[], Any]] = {
            "create": lambda: client.post("/v1/tasks", headers=json, content=b"{"),
            "quote": lambda: client.post("/v1/quotes", headers=json, content=b"{"),
            "read": lambda: client.get("/v1/tasks", params={"status": "Done"}),
        }
        for call in calls.values():
            assert call().status_code == 422
    with database.transaction() as connection:
        rows = connection.execute(sa.text("SELECT kind, calls FROM rate_limits ORDER BY kind")).all()
    assert [tuple(row) for row in rows] == [(kind, 1) for kind in sorted(calls)]


def test_others_are_served_when_a_long_chain_is_cancelled(gateway: Gateway) -> None:
    ids = make(gateway.owner, 6_000 if LONG else 1_000, chain)
    with others_are_served(gateway, f"a cancel of {len(ids)}"), gateway.client(gateway.owner.token) as client:
        assert client.post(f"/v1/tasks/{ids[0]}/cancel").json() == [str(ids[0])]


def test_connection_is_closed_when_it_sends_no_request(gateway: Gateway) -> None:
    seconds = 30
    with ExitStack() as opened, others_are_served(gateway, "connections that say nothing"):
        silent = [
            opened.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=seconds))
            for _ in range(300)
        ]
        for connection in silent[::2]:
            connection.sendall(b"GET /v1/tasks HTTP/1.1\r\nX-Slow: ")
        assert answered_end(silent[0])
        assert answered_end(silent[1])


def answered_end(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
