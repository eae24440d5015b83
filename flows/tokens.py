"""The caller's token, as a run of a deployment gets it: sealed for its request, or in a Secret block of Prefect's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from prefect.blocks.system import Secret
from pydantic import SecretStr

from flows.runs import this_flow_run_id
from tasks_lib import database
from tasks_lib.auth.sealing import digest, unseal
from tasks_lib.errors import AuthenticationError


async def open_token(token_block: str, sealed_token: str | None, request: Mapping[str, Any]) -> SecretStr:
    """The token that was sealed for this request (its JSON form), or else the one in the block.

    A sealed one is for one run, which may come again with it. Raises `AuthenticationError`, also when there is no such
    block.
    """
    if sealed_token:
        token = unseal(sealed_token, request)
        run_id = this_flow_run_id() or uuid4()
        if not await asyncio.to_thread(database.scalar, "use_seal", p_digest=digest(sealed_token), p_run_id=run_id):
            raise AuthenticationError("the sealed token was used by another run; send the request again")
        return token
    try:
        block: Any = await Secret.aload(token_block)
    except ValueError:
        raise AuthenticationError(
            f"there is no Secret block `{token_block}`; `unitask token create YOUR_NAME --block {token_block}` makes it"
        ) from None
    return SecretStr(str(block.get()))
