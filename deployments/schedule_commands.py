"""`unitask schedule`: batches that come again, as schedules of Prefect's."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tasks_lib import batches, templates
from tasks_lib.cli.inputs import ProjectOption, project_or_only
from tasks_lib.cli.output import Output, OutputOption, complain, console, print_json, say, table_of

app = typer.Typer(no_args_is_help=True, help="Batches that come again: schedules of Prefect's.")

ScheduleArgument = Annotated[str, typer.Argument(help="name or id, or its beginning", metavar="SCHEDULE")]


@app.command("create")
def create_schedule(
    template: Annotated[str, typer.Argument(help="a name from `unitask templates list`")],
    cron: Annotated[str | None, typer.Option(help="five fields, as `0 3 * * *`")] = None,
    interval: Annotated[str | None, typer.Option(help="seconds, or as 15m, 2h, 1d")] = None,
    rrule: Annotated[str | None, typer.Option(help="a rule of iCalendar, as FREQ=WEEKLY;BYDAY=MO")] = None,
    timezone: Annotated[str, typer.Option(help="a name such as Europe/Berlin")] = "UTC",
    items: Annotated[Path | None, typer.Option(help="a .jsonl or .csv file: a row for each task")] = None,
    items_url: Annotated[str | None, typer.Option(help="the same at an address, read each time")] = None,
    images: Annotated[str | None, typer.Option(help="a pattern of pictures, s3://bucket/in/*.png")] = None,
    images_field: Annotated[str, typer.Option(help="the parameter that takes the picture")] = "image_url",
    name: Annotated[str | None, typer.Option(help="a name for the schedule")] = None,
    token_block: Annotated[str, typer.Option(help="Secret block with the token of its runs")] = "unitask-token",  # noqa: S107
    project: ProjectOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Create a task from a template for every row of a list, again and again; all is checked now."""
    from deployments import batch_schedules

    project_id = project_or_only(project)
    rhythm = batch_schedules.rhythm_of(cron, interval, rrule, timezone)
    rows: dict[str, Any] = {"items_url": items_url, "images": images, "token_block": token_block}
    if items is not None:
        rows["items"] = batches.read_items(items, templates.get_template(template, project_id=project_id).task_type)
    rows |= {"images_field": images_field} if images else {}
    given = {key: value for key, value in rows.items() if value is not None}
    made = batch_schedules.create_schedule(template, rhythm, given, project_id=project_id, name=name)
    if not batch_schedules.has_token(token_block):
        complain(
            f"there is no Secret block `{token_block}`, and its runs will fail without: "
            f"`unitask token create --block {token_block}` makes it"
        )
    if output is Output.json:
        return print_json(asdict(made))
    return say(
        "\n".join(
            [f"{made.id} makes its next batches at", *(f"{time:%a %Y-%m-%d %H:%M %Z}" for time in made.next_times)]
        )
    )


@app.command("list")
def list_schedules(project: ProjectOption = None, output: OutputOption = Output.table) -> None:
    """List the schedules of a project: when each is next, and how its last run ended."""
    from deployments import batch_schedules

    found = batch_schedules.list_schedules(project_id=project_or_only(project))
    if output is Output.json:
        return print_json([asdict(schedule) for schedule in found])
    table = table_of("id", "name", "template", "when", "next", "last")
    for schedule in found:
        rhythm = schedule.schedule
        when = rhythm.get("cron") or rhythm.get("rrule") or f"every {rhythm['interval']:g} s"
        next_ = f"{schedule.next_times[0]:%Y-%m-%d %H:%M %Z}" if schedule.next_times else "paused"
        zone = rhythm.get("timezone") or "UTC"
        table.add_row(
            schedule.id[:8],
            schedule.name or "",
            schedule.template,
            f"{when} {zone}",
            next_,
            schedule.last or "none yet",
        )
    return console.print(table)


@app.command("pause")
def pause_schedule(schedule: ScheduleArgument, project: ProjectOption = None) -> None:
    """Plan no more runs until it is resumed."""
    from deployments import batch_schedules

    say(f"{batch_schedules.switch_schedule(schedule, False, project_id=project_or_only(project))} is paused")


@app.command("resume")
def resume_schedule(schedule: ScheduleArgument, project: ProjectOption = None) -> None:
    """Plan runs again, from now on."""
    from deployments import batch_schedules

    say(f"{batch_schedules.switch_schedule(schedule, True, project_id=project_or_only(project))} is active")


@app.command("remove")
def remove_schedule(schedule: ScheduleArgument, project: ProjectOption = None) -> None:
    """Remove it; its runs and tasks stay."""
    from deployments import batch_schedules

    say(f"{batch_schedules.remove_schedule(schedule, project_id=project_or_only(project))} is removed")
