"""Which provider serves which task type, by the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from tasks_lib.errors import ProviderError
from tasks_lib.providers.base import Adapter, Work
from tasks_lib.providers.fal import Fal
from tasks_lib.providers.replicate import Replicate
from tasks_lib.providers.requests import BUILDS, Build, works
from tasks_lib.settings import Settings


@dataclass(frozen=True)
class Provider:
    """A provider as the settings have it. Without a key it cannot be used."""

    adapter: Adapter
    url: str
    key: SecretStr | None
    key_setting: str
    scheme: str
    concurrency: int
    per_minute: int

    @property
    def has_key(self) -> bool:
        """Whether the service has an account there."""
        return self.key is not None and bool(self.key.get_secret_value())

    def require_key(self) -> SecretStr:
        """The service's own key. Raises `ProviderError` that names the setting when there is none."""
        if self.key is None or not self.has_key:
            raise ProviderError(f"{self.adapter.name} needs a key: set {self.key_setting}")
        return self.key


def providers(settings: Settings) -> dict[str, Provider]:
    """All providers by name."""
    s = settings
    return {
        "replicate": Provider(
            Replicate(),
            s.replicate_url,
            s.replicate_token,
            "UNITASK_REPLICATE_TOKEN",
            "Bearer",
            s.replicate_concurrency,
            s.replicate_per_minute,
        ),
        "fal": Provider(
            Fal(s.fal_jwks_url),
            s.fal_url,
            s.fal_key,
            "UNITASK_FAL_KEY",
            "Key",
            s.fal_concurrency,
            s.fal_per_minute,
        ),
    }


@dataclass(frozen=True)
class Route:
    """How a task type is served: by which provider, and by another model than the usual one if the settings say so."""

    provider: str
    build: Build
    model: str | None

    def works(self, params: Mapping[str, Any], asked: Mapping[str, Sequence[str]] | None = None) -> list[Work]:
        """The jobs that make the result of a row with these stored params; see `requests.works`."""
        return works(self.build, params, self.model, asked)


def route(task_type: str, settings: Settings) -> Route:
    """The provider that serves a type. Raises `ProviderError` that says what can be set."""
    able = BUILDS.get(task_type, {})
    if not able:
        raise ProviderError(f"no provider is known that serves `{task_type}`")
    chosen, _, model = settings.providers.get(task_type, next(iter(able))).partition(":")
    if chosen not in able:
        raise ProviderError(
            f"UNITASK_PROVIDERS gives `{task_type}` to `{chosen}`; it can be served by {', '.join(able)}"
        )
    return Route(chosen, able[chosen], model or None)
