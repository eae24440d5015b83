"""Prefect's REST API, without importing Prefect, which would take seconds."""

from __future__ import annotations

import os

import httpx

TIMEOUT_SECONDS = 60


def client(api_url: str | None = None, timeout: float = TIMEOUT_SECONDS) -> httpx.Client:
    """A client of the API at `api_url` (default: `PREFECT_API_URL`), with the credential that Prefect's own takes."""
    api_url = api_url or os.environ["PREFECT_API_URL"]
    headers = {"Authorization": f"Bearer {key}"} if (key := os.environ.get("PREFECT_API_KEY")) else {}
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    return httpx.Client(
        base_url=api_url.rstrip("/"),
        headers=headers,
        auth=(user, password) if user and not key else None,
        timeout=timeout,
    )


def answers(client: httpx.Client, path: str) -> bool:
    """Whether the API answers `path` in time, and well."""
    try:
        return client.get(path).is_success
    except httpx.HTTPError:
        return False
