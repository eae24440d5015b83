"""The caller's token, as a run of a deployment gets it: sealed for its request, or in a Secret block of Prefect's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect.blocks.system import Secret
from pydantic import SecretStr

from tasks_lib.auth.sealing import unseal
from tasks_lib.errors import AuthenticationError


async def open_token(token_block: str, sealed_token: str | None, request: Mapping[str, Any]) -> SecretStr:
    """The token that was sealed for this request (its JSON form), or else the one in the block.

    Raises `AuthenticationError`, also when there is no such block.
    """
    if sealed_token:
        return unseal(sealed_token, request)
    try:
        block: Any = await Secret.aload(token_block)
    except ValueError:
        raise AuthenticationError(
            f"there is no Secret block `{token_block}`; `unitask token create YOUR_NAME --block {token_block}` makes it"
        ) from None
    return SecretStr(str(block.get()))
