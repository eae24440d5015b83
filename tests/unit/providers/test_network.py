"""Results of providers are not fetched from private addresses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tasks_lib.providers.http import Downloads
from tasks_lib.providers.network import ResultGone
from tasks_lib.settings import Settings

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers every request, and counts its connections."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    async with await asyncio.start_server(server.handle, "127.0.0.1", 0) as listening:
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
        yield server


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
