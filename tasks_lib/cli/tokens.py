"""The commands about personal access tokens."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from tasks_lib import accounts
from tasks_lib.auth import issue_token, list_tokens, revoke_token
from tasks_lib.auth.tokens import DEFAULT_SCOPES, check_scopes
from tasks_lib.cli.output import Output, OutputOption, console, errors, moment, print_json, say, table_of

app = typer.Typer(no_args_is_help=True, help="Personal access tokens.")


@app.command("create")
def create_token(
    user: Annotated[str, typer.Argument(help="name of the user; a new name makes a user with a first project")],
    label: Annotated[str, typer.Option(help="what it is for")] = "",
    project: Annotated[str, typer.Option(help="name of the project to make sure of")] = "default",
    scope: Annotated[list[str] | None, typer.Option(help="what it may do; repeat for several")] = None,
    days: Annotated[float | None, typer.Option(min=0, help="it expires after so many days")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Make a token and show it, this once. Needs the database, so it is for operators."""
    # Before anybody is made.
    check_scopes(scope or DEFAULT_SCOPES)
    user_id = accounts.ensure_user(user)
    project_id = accounts.ensure_project(user_id, project)
    expires_at = datetime.now(UTC) + timedelta(days=days) if days is not None else None
    token = issue_token(user_id, label=label, scopes=scope or DEFAULT_SCOPES, expires_at=expires_at)
    secret = token.secret.get_secret_value()
    if output is Output.json:
        return print_json({"token": secret, "user_id": user_id, "project_id": project_id})
    say(f"export UNITASK_TOKEN={secret}")
    return errors.print(
        f"It is not stored and cannot be shown again. Project: {project_id}", style="dim", soft_wrap=True
    )


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
