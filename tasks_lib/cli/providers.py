"""The commands about external providers: keys, holds that nobody else can settle, webhooks, and one to try with."""

from __future__ import annotations

import dataclasses
import signal
from typing import Annotated

import typer
from pydantic import SecretStr

from tasks_lib.auth import authenticate
from tasks_lib.cli.output import Output, OutputOption, console, moment, print_json, say, table_of
from tasks_lib.errors import AuthorizationError
from tasks_lib.ids import find_task_id
from tasks_lib.providers import jobs, keys

app = typer.Typer(no_args_is_help=True)
keys_app = typer.Typer(no_args_is_help=True, help="Your own keys for providers: your tasks are paid with them there.")
providers_app = typer.Typer(no_args_is_help=True, help="What only a person can decide about jobs at providers.")
app.add_typer(keys_app, name="keys")
app.add_typer(providers_app, name="providers")

ProviderArgument = Annotated[str, typer.Argument(help="replicate or fal")]


@keys_app.command("set")
def set_key(
    provider: ProviderArgument,
    key: Annotated[str, typer.Option(prompt=True, hide_input=True, help="asked for, so that no history keeps it")],
) -> None:
    """Give a key. It is stored encrypted, and shown to nobody again."""
    keys.set_key(provider, SecretStr(key))
    say(f"your tasks go to {provider} with your key from now on")


@keys_app.command("list")
def list_keys(output: OutputOption = Output.table) -> None:
    """List the providers that you have given a key for."""
    found = keys.list_keys()
    if output is Output.json:
        return print_json([dataclasses.asdict(key) for key in found])
    table = table_of("provider", "given")
    for key in found:
        table.add_row(key.provider, moment(key.created_at))
    return console.print(table)


@keys_app.command("delete")
def delete_key(provider: ProviderArgument) -> None:
    """Take a key back. What runs with it can then be neither fetched nor cancelled by us."""
    keys.delete_key(provider)
    say(f"your key for {provider} is deleted")


@providers_app.command("settle")
def settle(
    task_id: Annotated[str, typer.Argument(help="a task that failed as `unknown_outcome`", metavar="TASK")],
    paid: Annotated[bool, typer.Option("--paid/--not-paid", help="whether the provider's own books have the job")],
) -> None:
    """Settle the credits that a task holds while nobody knows whether its provider took the job: by the service key."""
    if not authenticate().is_service:
        raise AuthorizationError("only the service may settle what nobody knows: set UNITASK_TOKEN to its key")
    count = jobs.settle_unknown(find_task_id(task_id), paid=paid)
    say(f"{count} job(s) settled: the hold was {'captured' if paid else 'released'}")


@app.command("provider-webhooks")
def provider_webhooks(
    host: Annotated[str, typer.Option(help="where to listen; a proxy with TLS stands before it")] = "127.0.0.1",
    port: Annotated[int, typer.Option()] = 8198,
) -> None:
    """Receive webhooks of providers, so that results are fetched when they are ready. Needs UNITASK_WEBHOOK_URL set."""
    import uvicorn

    from tasks_lib.providers.webhooks import create_app

    uvicorn.run(create_app(), host=host, port=port, log_level="warning")


@app.command("provider-sim")
def provider_sim(
    port: Annotated[int, typer.Option(help="on 127.0.0.1")] = 8199,
    latency: Annotated[float, typer.Option(help="seconds that a job takes")] = 2.0,
    late_cost: Annotated[int, typer.Option(help="looks at an ended job before its time is known")] = 0,
) -> None:
    """Be a provider for trials: speaks as Replicate and as fal do, makes small pictures, and asks for no money.

    Point the workers at it, with any key: UNITASK_FAL_URL, UNITASK_REPLICATE_URL, UNITASK_FAL_KEY,
    UNITASK_REPLICATE_TOKEN, UNITASK_FAL_JWKS_URL=<url>/.well-known/jwks.json for webhooks, and
    UNITASK_ALLOW_PRIVATE_URLS=true for the results. It misbehaves when it is told to by
    POST /_sim/faults, for example {"call": "submit", "kind": "429", "times": 3, "seconds": 2}.
    """
    from tasks_lib.providers.simulator import Simulator  # brings the pixels along, which no other command needs

    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with Simulator(latency, late_cost).serving(port) as simulator:
        say(f"a provider for trials listens at {simulator.url}; Ctrl-C ends it")
        signal.sigwait(ends)
