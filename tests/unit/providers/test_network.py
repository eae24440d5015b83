"""Connections to providers: none that its server has closed, and none to a private address."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpcore2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tasks_lib.providers.http import Downloads
from tasks_lib.providers.network import Network, ResultGone
from tasks_lib.settings import Settings

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers every request, counts its connections, and closes them when told to."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.open: set[asyncio.StreamWriter] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        while (await reader.readline()).strip():
            while (await reader.readline()).strip():
                pass
            writer.write(ANSWER)
            await writer.drain()

    async def close_all(self) -> None:
        for writer in self.open:
            # With TLS a polite end waits for the other side, which does not listen while the connection is idle.
            writer.transport.abort()
            await writer.wait_closed()
        self.open.clear()


@asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server()
    async with await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=context) as listening:
        scheme = "https" if context else "http"
        server.url = f"{scheme}://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
        yield server
        await server.close_all()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate that it has signed itself, for 127.0.0.1, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.mark.parametrize("encrypted", [False, True])
def test_new_connection_is_made_when_the_server_has_closed_the_idle_one(certificate: Path, *, encrypted: bool) -> None:
    async def main() -> None:
        context = None
        if encrypted:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
        trusted = ssl.create_default_context(cafile=str(certificate))
        async with serving(context) as server, pool(trusted) as client:
            for _ in range(3):
                assert (await client.request("GET", server.url)).status == 200
            assert server.connections == 1
            await server.close_all()
            assert (await client.request("GET", server.url)).status == 200
            assert server.connections == 2

    asyncio.run(main())


def pool(trusted: ssl.SSLContext) -> httpcore2.AsyncConnectionPool:
    return httpcore2.AsyncConnectionPool(ssl_context=trusted, network_backend=Network())


@pytest.mark.parametrize("allowed", [False, True])
def test_result_at_a_private_address_is_fetched_only_when_the_settings_allow_it(
    tmp_path: Path, *, allowed: bool
) -> None:
    async def main() -> None:
        async with serving() as server, Downloads(Settings(database_url="", allow_private_urls=allowed)) as downloads:
            if allowed:
                await downloads.fetch(server.url, tmp_path / "result")
            else:
                with pytest.raises(ResultGone, match="not a public address"):
                    await downloads.fetch(server.url, tmp_path / "result")
            assert server.connections == allowed

    asyncio.run(main())
    assert (tmp_path / "result").exists() == allowed
