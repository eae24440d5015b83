"""The commands about personal access tokens."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer

from tasks_lib import accounts, secret_blocks
from tasks_lib.auth import issue_token, list_tokens, revoke_token
from tasks_lib.auth.tokens import DEFAULT_SCOPES, check_scopes
from tasks_lib.cli.output import Output, OutputOption, console, errors, moment, print_json, say, table_of
from tasks_lib.errors import TaskValidationError
from tasks_lib.secret_blocks import SecretBlock

app = typer.Typer(no_args_is_help=True, help="Personal access tokens.")


@app.command("create")
def create_token(
    user: Annotated[str, typer.Argument(help="name of the user; a new name makes a user with a first project")],
    block: Annotated[str, typer.Argument(help="with --block: name of the Secret block")] = secret_blocks.DEFAULT,
    label: Annotated[str, typer.Option(help="what it is for")] = "",
    project: Annotated[
        str | None, typer.Option(help="name of a project, made if there is none; without it their oldest")
    ] = None,
    scope: Annotated[list[str] | None, typer.Option(help="what it may do; repeat for several")] = None,
    days: Annotated[float | None, typer.Option(min=0, help="it expires after so many days")] = None,
    in_block: Annotated[
        bool,
        typer.Option("--block", help="keep it in that Secret block of Prefect, for deployments, and do not show it"),
    ] = False,
    output: OutputOption = Output.table,
) -> None:
    """Make a token and show it, this once. Needs the database, so it is for operators."""
    # Before anybody is made.
    check_scopes(scope or DEFAULT_SCOPES)
    if block != secret_blocks.DEFAULT and not in_block:
        raise TaskValidationError(f"`{block}` is the name of a Secret block, which goes with `--block`", "block")
    found = secret_blocks.find_block(block) if in_block else None
    user_id = accounts.ensure_user(user)
    project_id = accounts.ensure_project(user_id, project)
    expires_at = datetime.now(UTC) + timedelta(days=days) if days is not None else None
    label = label or (f"Secret block {block}" if in_block else "")
    token = issue_token(user_id, label=label, scopes=scope or DEFAULT_SCOPES, expires_at=expires_at)
    if found is not None:
        secret_blocks.write_block(found, token.secret)
        return _show_block(found, token.prefix, user_id, project_id, output)
    secret = token.secret.get_secret_value()
    if output is Output.json:
        return print_json({"token": secret, "user_id": user_id, "project_id": project_id})
    say(f"export UNITASK_TOKEN={secret}")
    return errors.print(
        f"It is not stored and cannot be shown again. Project: {project_id}", style="dim", soft_wrap=True
    )


def _show_block(block: SecretBlock, prefix: str, user_id: UUID, project_id: UUID, output: Output) -> None:
    """Say where the token is, and which older ones of the same place are no longer needed; never the secret."""
    before = [
        token.prefix
        for token in list_tokens(user_id)
        if token.label == f"Secret block {block.name}" and token.prefix != prefix and token.revoked_at is None
    ]
    if output is Output.json:
        facts = {"block": block.name, "prefix": prefix, "user_id": user_id, "project_id": project_id}
        return print_json({**facts, "earlier": before})
    say(f"Secret block {block.name} holds the token {prefix}")
    say(f"Project: {project_id}")
    for earlier in before:
        errors.print(
            f"Before it held {earlier}; `unitask token revoke {earlier}` ends that", style="dim", soft_wrap=True
        )
    return None


@app.command("list")
def list_user_tokens(
    user: Annotated[str | None, typer.Argument(help="only this user's")] = None, output: OutputOption = Output.table
) -> None:
    """List tokens by their visible prefix. Needs the database, so it is for operators."""
    tokens = list_tokens(accounts.find_user(user) if user is not None else None)
    if output is Output.json:
        return print_json([dataclasses.asdict(token) for token in tokens])
    table = table_of("prefix", "label", "scopes", "created", "expires", "last used")
    for token in tokens:
        ends = "revoked" if token.revoked_at else moment(token.expires_at) or "never"
        used = moment(token.last_used_at) or "never"
        table.add_row(token.prefix, token.label, ", ".join(token.scopes), moment(token.created_at), ends, used)
    return console.print(table)


@app.command("revoke")
def revoke(
    prefix: Annotated[str, typer.Argument(help="the visible part, from `unitask token list`")],
    output: OutputOption = Output.table,
) -> None:
    """End a token for good. Needs the database, so it is for operators."""
    token = revoke_token(prefix)
    if output is Output.json:
        return print_json(dataclasses.asdict(token))
    return say(f"{token.prefix} is revoked")
