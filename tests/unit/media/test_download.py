"""A server that behaves badly, and addresses that are not for users: each is refused in time and in a few bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tasks_lib.errors import EngineError, TaskError, TaskValidationError
from tasks_lib.media.download import _ssl_context, download, is_public
from tasks_lib.settings import get_settings

# The system's certificates take a moment to read, which is not the servers' fault.
_ssl_context()

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        name, _, rest = self.path[1:].partition("/")
        getattr(self, f"_{name}")(rest)

    def _answer(self, body: bytes, **headers: str) -> None:
        self.send_response(200)
        for header, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _picture(self, _: str) -> None:
        self._answer(PNG)

    def _packed(self, _: str) -> None:
        self._answer(PNG, Content_Encoding="gzip")

    def _endless(self, _: str) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(PNG * 100)

    def _slow(self, part: str) -> None:
        if part == "body":
            self.send_response(200)
            self.end_headers()
        while True:
            self.wfile.write(b"x")
            time.sleep(0.05)

    def _to(self, target: str) -> None:
        self.send_response(302)
        self.send_header("Location", target or "/to/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _status(self, code: str) -> None:
        self.send_response(int(code.partition("?")[0]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client has had enough
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Listens on every address of this machine, of IPv4 and IPv6."""

    address_family = socket.AF_INET6
    daemon_threads = True
    asked = 0

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on this machine, which would answer whoever reaches it."""
    with Server(("::", 0), _Handler) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()
    get_settings.cache_clear()


@pytest.fixture
def allowed(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The same, where the settings allow private addresses and little else."""
    for name, value in {"ALLOW_PRIVATE_URLS": "true", "DOWNLOAD_BYTES": "5000", "DOWNLOAD_SECONDS": "0.8"}.items():
        monkeypatch.setenv(f"UNITASK_{name}", value)
    get_settings.cache_clear()
    return server


LOCAL = [
    "127.0.0.1",
    "localhost",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.1",
    "0.0.0.0",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "user:password@127.0.0.1",
]


@pytest.mark.parametrize("host", [host for host in LOCAL if host != "0177.0.0.1"])  # which httpx takes for no address
def test_server_is_asked_in_every_form_when_the_settings_allow_it(allowed: Server, tmp_path: Path, host: str) -> None:
    """So it would have answered those that are refused below."""
    download(f"http://{host}:{allowed.server_port}/picture", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == PNG
    assert allowed.asked == 1


@pytest.mark.parametrize("host", LOCAL)
def test_server_is_not_asked_when_it_is_on_this_machine(server: Server, tmp_path: Path, host: str) -> None:
    with pytest.raises(TaskValidationError, match=r"not a public address|not an http"):
        download(f"http://{host}:{server.server_port}/picture", tmp_path / "a")
    assert server.asked == 0


PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "168.63.129.16",
    "100.64.0.1",
    "100.100.100.200",
    "0.0.0.0",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:10.0.0.1",
    "::10.0.0.1",
    "64:ff9b::a00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:a00:1::",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    "2001:db8::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_name_is_refused_when_it_resolves_to_a_private_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    assert not is_public(address)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", 80))]
    answers.append((family, socket.SOCK_STREAM, 6, "", (address, 80)))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(TaskValidationError, match="not a public address"):
        download("http://rebinding.example/a.png", tmp_path / "a")


def answering(*answers: str) -> Callable[..., list[Any]]:
    """A resolver that gives the next of these addresses at every look-up of a name, and then the last one for ever."""
    left, real = list(answers), socket.getaddrinfo

    def resolve(host: str, port: int, *rest: Any, **options: Any) -> list[Any]:
        if host != "pictures.example":
            return list(real(host, port, *rest, **options))
        address = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return resolve


def test_server_is_not_asked_when_a_name_resolves_to_this_machine(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering("127.0.0.1"))
    with pytest.raises(TaskValidationError, match="not a public address"):
        download(f"http://pictures.example:{server.server_port}/picture", tmp_path / "a")
    assert server.asked == 0


def test_server_is_not_asked_when_a_name_changes_its_address_after_the_check(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.2 counts as public here and has a server; that at 127.0.0.1 is where a second look-up would lead."""
    with Server(("::ffff:127.0.0.2", 0), _Handler) as first:
        threading.Thread(target=first.serve_forever, args=(0.02,)).start()
        monkeypatch.setattr("tasks_lib.media.download.is_public", lambda address: address == "127.0.0.2")
        monkeypatch.setattr(socket, "getaddrinfo", answering("127.0.0.2", "127.0.0.1"))
        download(f"http://pictures.example:{first.server_port}/picture", tmp_path / "a")
        # The next connection looks anew, and is checked anew.
        with pytest.raises(TaskValidationError, match="not a public address"):
            download(f"http://pictures.example:{first.server_port}/picture", tmp_path / "b")
        first.shutdown()
    assert (first.asked, server.asked) == (1, 0)


def test_address_is_public_when_it_is_on_the_open_internet() -> None:
    for address in ("93.184.215.14", "2606:2800:21f::1", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"):
        assert is_public(address)


SCHEMES = ["file://{file}", "ftp://127.0.0.1:{port}/a", "gopher://127.0.0.1:{port}/a", "data:image/png;base64,AA=="]


@pytest.mark.parametrize("url", [*SCHEMES, "//127.0.0.1:{port}/picture", "127.0.0.1:{port}/picture", "a"])
def test_url_is_refused_when_it_is_not_http(allowed: Server, tmp_path: Path, url: str) -> None:
    """The file is there, and at the port is somebody who would answer."""
    (tmp_path / "secret").write_text("a secret")
    with pytest.raises(TaskValidationError, match="not an http"):
        download(url.format(file=tmp_path / "secret", port=allowed.server_port), tmp_path / "a")
    assert allowed.asked == 0
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("target", SCHEMES)
def test_redirect_is_refused_when_it_leaves_http(allowed: Server, tmp_path: Path, target: str) -> None:
    (tmp_path / "secret").write_text("a secret")
    to = target.format(file=tmp_path / "secret", port=allowed.server_port)
    # To the client a redirect to `data:` is no redirect at all.
    with pytest.raises((TaskValidationError, EngineError), match=r"not an http|Invalid URL in location header"):
        download(f"{allowed.url}/to/{to}", tmp_path / "a")
    assert allowed.asked == 1
    assert not (tmp_path / "a").exists()


def test_server_is_not_asked_when_a_redirect_leads_to_this_machine(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only 127.0.0.2, where the redirect comes from, counts as public here."""
    monkeypatch.setattr("tasks_lib.media.download.is_public", lambda address: address == "127.0.0.2")
    for host in ("127.0.0.1", "2130706433", "[::1]", "[::ffff:7f00:1]", "localhost"):
        before = server.asked
        with pytest.raises(TaskValidationError, match="not a public address"):
            download(
                f"http://127.0.0.2:{server.server_port}/to/http://{host}:{server.server_port}/picture", tmp_path / "a"
            )
        assert server.asked == before + 1, host


def test_redirect_is_refused_when_it_leads_to_a_private_address(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first host counts as public here; the redirect from it is checked like any other address."""
    monkeypatch.setattr("tasks_lib.media.download.is_public", lambda address: address == "127.0.0.1")
    with pytest.raises(TaskValidationError, match="not a public address"):
        download(f"{server.url}/to/http://169.254.169.254/latest/meta-data", tmp_path / "a")
    assert server.asked == 1


@pytest.mark.parametrize(
    ("path", "kind", "text", "retryable"),
    [
        ("endless", TaskValidationError, "more than 5000 bytes", False),
        ("slow/body", EngineError, "longer than 0.8 seconds", True),
        ("slow/headers", EngineError, "longer than 0.8 seconds", True),
        ("packed", TaskValidationError, "packed", False),
        ("to/", EngineError, "redirects more than", False),
        ("status/404", EngineError, "answered 404", False),
        ("status/503?signature=secret", EngineError, "answered 503", True),
    ],
)
def test_download_ends_when_the_server_behaves_badly(
    allowed: Server, tmp_path: Path, path: str, kind: type[TaskError], text: str, retryable: bool
) -> None:
    start = time.monotonic()
    with pytest.raises(kind, match=text) as caught:
        download(f"{allowed.url}/{path}", tmp_path / "a")
    assert caught.value.retryable is retryable
    assert "secret" not in str(caught.value)
    assert time.monotonic() - start < 5


def test_picture_is_fetched_when_all_is_well(allowed: Server, tmp_path: Path) -> None:
    download(f"{allowed.url}/to/{allowed.url}/picture", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == PNG


def test_nothing_is_fetched_when_the_library_keeps_its_connections_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = httpx2.HTTPTransport.__init__

    def renamed(transport: httpx2.HTTPTransport, **options: Any) -> None:
        made(transport, **options)
        transport.__dict__["_connections"] = transport.__dict__.pop("_pool")

    monkeypatch.setattr(httpx2.HTTPTransport, "__init__", renamed)
    with pytest.raises(RuntimeError, match="addresses cannot be checked"):
        download("http://127.0.0.1:9/", tmp_path / "a")
