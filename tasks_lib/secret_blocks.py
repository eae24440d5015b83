"""The Prefect Secret block with a caller's token, which flows read; by REST, since the library knows no Prefect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2
from pydantic import SecretStr

from tasks_lib.deployment_client import prefect_client
from tasks_lib.errors import ProviderError, TaskValidationError

DEFAULT = "unitask-token"


@dataclass(frozen=True)
class SecretBlock:
    """A Secret block that can be written; `id` is None as long as there is none of that name."""

    name: str
    id: str | None
    type_id: str
    schema_id: str


def find_block(name: str) -> SecretBlock:
    """Look a Secret block up. Raises `TaskValidationError` where there is no Prefect, `ProviderError` if it fails."""
    kind = _call("GET", "/block_types/slug/secret")
    (schema, *_) = _call("POST", "/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind["id"]]}}})
    by_name = {"block_documents": {"name": {"any_": [name]}, "block_type_id": {"any_": [kind["id"]]}}}
    found = _call("POST", "/block_documents/filter", by_name)
    return SecretBlock(name, found[0]["id"] if found else None, kind["id"], schema["id"])


def write_block(block: SecretBlock, secret: SecretStr) -> None:
    """Create the block, or put the secret in the place of what it holds."""
    data = {"value": secret.get_secret_value()}
    if block.id is not None:
        body = {"data": data, "block_schema_id": block.schema_id, "merge_existing_data": False}
        _call("PATCH", f"/block_documents/{block.id}", body)
    else:
        ids = {"block_type_id": block.type_id, "block_schema_id": block.schema_id}
        _call("POST", "/block_documents/", {"name": block.name, "data": data, **ids})


def _call(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    try:
        with prefect_client() as api:
            response = api.request(method, path, json=body)
            if response.status_code == httpx2.codes.UNPROCESSABLE_ENTITY:
                # Its answer would repeat what was sent.
                raise TaskValidationError("`block`: small letters, digits and single dashes only", "block")
            response.raise_for_status()
            return response.json() if response.content else None
    except httpx2.HTTPError as error:
        raise ProviderError(f"Prefect's API failed: {str(error) or type(error).__name__}", retryable=True) from None
