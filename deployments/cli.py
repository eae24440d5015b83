"""`unitask up`, `down`, `deploy` and `status`: the platform, for those who run it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any, Literal

import sqlalchemy as sa
import typer
from rich.text import Text

from db.embedded import EmbeddedPostgresError
from deployments import schedule_commands, supervisor
from deployments.status import platform_status
from deployments.supervisor import POOLS, PREFERRED_PORT
from flows import fleet
from tasks_lib.cli.output import Output, OutputOption, complain, console, errors, print_json, say, table_of
from tasks_lib.errors import TaskError

app = typer.Typer(no_args_is_help=True)
app.add_typer(schedule_commands.app, name="schedule")

Pool = Literal["gpu", "api"]
STREAM_SECONDS = 5
"""How long the gateway lets what it answers go on when it is asked to end."""
MARKS = {"good": ("ok", "green"), "note": ("note", "yellow"), "wrong": ("wrong", "red")}


@app.command()
def up(output: OutputOption = Output.table) -> None:
    """Start Postgres, Prefect's server and the workers in the background, and register the deployments."""
    from deployments.deploy import deploy as run_deploy

    began = time.monotonic()
    with _no_traceback(), errors.status("starting Postgres, Prefect's server and the workers") as status:
        run = supervisor.up()
        status.update("registering the deployments")
        done = run_deploy()
        fleet.ensure_workers(minimum=dict.fromkeys(POOLS, 1), api_url=run.prefect_api_url)
    _show(platform_status(), output)
    if output is Output.table:
        for change in done.kept if done.changed else ():
            say(str(change))
        say(f"ready in {time.monotonic() - began:.1f} s; see {run.prefect_ui_url}, end with `unitask down`")


@app.command()
def down() -> None:
    """End every process of the platform."""
    with _no_traceback():
        supervisor.down()


@app.command()
def deploy(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be written, and what stays")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Make pools and queues, register what prefect.yaml says and nobody changed, and remove what it no longer says.

    What people set in Prefect stays, and is named: their schedules, switches, parameters, pauses and limits.
    """
    from deployments.deploy import deploy as run_deploy

    with _no_traceback():
        done = run_deploy(dry_run=dry_run)
    if output is Output.json:
        return print_json(asdict(done) | {"changed": done.changed, "removed": done.removed})
    for change in done.changes:
        say(f"would be {change}" if dry_run and change.kind != "kept" else str(change))
    verb = "would be registered" if dry_run else "registered"
    return say(f"{verb if done.changed else 'unchanged'}: {', '.join(done.deployments)}")


@app.command()
def status(output: OutputOption = Output.table) -> None:
    """Show which processes run and which workers the pools have; exit code 1 if the platform is not whole."""
    with _no_traceback():
        found = platform_status()
    _show(found, output)
    if not found["ready"]:
        raise typer.Exit(1)


@app.command()
def doctor(output: OutputOption = Output.table) -> None:
    """Look at everything that tasks need here, and say what is wrong and what helps; exit code 1 if something is."""
    from deployments.doctor import examine

    with _no_traceback():
        findings = examine()
    if output is Output.json:
        print_json([finding._asdict() for finding in findings])
    else:
        table = table_of("", "what", "how it is")
        for finding in findings:
            table.add_row(Text(*MARKS[finding.state]), finding.what, finding.text)
        console.print(table)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


@app.command()
def gateway(
    host: Annotated[
        str, typer.Option(help="the address to listen on; put a TLS proxy before a public one")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 4280,
) -> None:
    """Serve the HTTP door, by which web back ends create and follow tasks; until it is stopped."""
    import uvicorn

    from deployments.gateway import create_app
    from deployments.gateway.connections import BoundedConnection

    # Streams of events may never end: without a bound, neither would a service that is asked to.
    uvicorn.run(
        create_app(),
        host=host,
        port=port,
        log_level="warning",
        server_header=False,
        http=BoundedConnection,
        ws="none",
        timeout_graceful_shutdown=STREAM_SECONDS,
    )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def worker(context: typer.Context, pool: Annotated[Pool, typer.Argument(help="gpu or api")]) -> None:
    """Be the worker of a pool, in the foreground; on SIGTERM its flows finish or hand back what they hold.

    Further options are those of `prefect worker start`, such as `--limit 1` and `--with-healthcheck`.
    """
    from deployments import foreground

    with _no_traceback():
        raise typer.Exit(foreground.work(pool, context.args))


@app.command()
def server(
    host: Annotated[str, typer.Option(help="the address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = PREFERRED_PORT,
) -> None:
    """Be Prefect's server, in the foreground, on the database PREFECT_SERVER_DATABASE_CONNECTION_URL."""
    from deployments import foreground

    with _no_traceback():
        foreground.serve(host, port)


def _show(found: dict[str, Any], output: Output) -> None:
    if output is Output.json:
        return print_json(found)
    table = table_of("process", "state", "pid", "where")
    for name, process in found["processes"].items():
        table.add_row(name, process["state"], str(process["pid"] or ""), process["where"])
    for name, pool in found["pools"].items():
        queues = ", ".join(f"{queue} ({state})" for queue, state in pool["queues"].items())
        flows = f"{pool['workers']} worker(s), {pool['worker_flows']} flow(s)"
        table.add_row(f"pool {name}", pool["state"], "", f"{flows}; queues {queues}")
    console.print(table)
    for finding in found["findings"]:
        console.print(Text(*MARKS[finding["state"]]), Text(finding["text"]))
    return None


@contextmanager
def _no_traceback() -> Iterator[None]:
    """What goes wrong on purpose is told in its own words."""
    try:
        yield
    except (TaskError, EmbeddedPostgresError) as error:
        complain(f"error: {error}")
        raise typer.Exit(1) from None
    except sa.exc.DBAPIError as error:
        complain(f"error: the database refused: {error.orig}")
        raise typer.Exit(1) from None
