"""Clients of accounts at providers: with the service's key, or with one that a user has given."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

from tasks_lib.auth.sealing import decrypt
from tasks_lib.errors import ProviderError
from tasks_lib.providers.base import Adapter
from tasks_lib.providers.http import Http
from tasks_lib.providers.routing import providers
from tasks_lib.settings import Settings


@dataclass(frozen=True)
class Client:
    """An account at a provider: its API with the account's key, and the adapter that speaks with it."""

    http: Http
    adapter: Adapter


class Clients:
    """The clients of one event loop, each made when it is needed first. Use it as a context."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._providers = providers(settings)
        self._made: dict[tuple[str, str | None], Client] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def served(self) -> list[str]:
        """The providers for which the service has a key."""
        return [name for name, provider in self._providers.items() if provider.has_key]

    def of(self, account: str, sealed_key: str | None) -> Client:
        """The client of an account: the service's (`fal`), or a user's (`fal/<id>`) with their sealed key.

        Raises `ProviderError` that says which key is missing.
        """
        if made := self._made.get((account, sealed_key)):
            return made
        name, _, user = account.partition("/")
        if (provider := self._providers.get(name)) is None:
            raise ProviderError(f"there is no provider `{name}`; known are {', '.join(self._providers)}")
        if user and sealed_key is None:
            raise ProviderError(f"its user has taken back the key for {name} that this job was for")
        key = decrypt(sealed_key, account) if sealed_key else provider.require_key()
        http = Http(provider.url, key, provider.scheme, self._settings)
        self._stack.push_async_exit(http)
        made = self._made[account, sealed_key] = Client(http, provider.adapter)
        return made
