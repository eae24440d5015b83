"""The commands about projects and shots."""

from __future__ import annotations

import dataclasses
from typing import Annotated
from uuid import UUID

import typer

from tasks_lib import accounts, projects
from tasks_lib.cli.inputs import ProjectOption, project_or_only
from tasks_lib.cli.output import Output, OutputOption, print_json, print_rows, say
from tasks_lib.errors import TaskValidationError
from tasks_lib.params.resolution import ASPECT_RATIOS

project_app = typer.Typer(no_args_is_help=True, help="Your projects: whose aspect ratio is the size of what you make.")
shot_app = typer.Typer(no_args_is_help=True, help="The shots of a project, into which results are put.")

NameArgument = Annotated[str, typer.Argument(help="a name")]
NameOption = Annotated[str | None, typer.Option("--name", help="a new name")]
ProjectArgument = Annotated[str, typer.Argument(help="id or name of a project")]
AspectRatioOption = Annotated[
    str | None,
    typer.Option("--aspect-ratio", help=", ".join(ASPECT_RATIOS), autocompletion=lambda: list(ASPECT_RATIOS)),
]
UserOption = Annotated[str | None, typer.Option("--user", help="whose, if the token is the service key")]


@project_app.command("create")
def create_project(
    name: NameArgument,
    aspect_ratio: AspectRatioOption = None,
    user: UserOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Make a project; your first one makes you known here.

    For example: unitask project create holidays --aspect-ratio 16:9
    """
    made = projects.create_project(name, aspect_ratio=aspect_ratio, user_id=_user_id(user))
    _print_project(made, output)


@project_app.command("list")
def list_projects(user: UserOption = None, output: OutputOption = Output.table) -> None:
    """List your projects."""
    found = projects.list_projects(user_id=_user_id(user))
    if output is Output.json:
        return print_json([dataclasses.asdict(project) for project in found])
    rows = [[str(project.id), project.aspect_ratio or "1:1", project.name] for project in found]
    return print_rows(["project", "aspect ratio", "name"], rows)


@project_app.command("set")
def set_project(
    project: ProjectArgument,
    name: NameOption = None,
    aspect_ratio: AspectRatioOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Change a project's name or aspect ratio; tasks that are there keep their size."""
    if name is None and aspect_ratio is None:
        raise TaskValidationError("say what to change: --name or --aspect-ratio", "name")
    id_ = accounts.find_project(project)
    _print_project(projects.set_project(id_, name=name, aspect_ratio=aspect_ratio), output)


@shot_app.command("create")
def create_shot(name: NameArgument, project: ProjectOption = None, output: OutputOption = Output.table) -> None:
    """Make a shot, the last of its project; --set shot_id=… puts what a task makes there."""
    _print_shot(projects.create_shot(name, project_id=project_or_only(project)), output)


@shot_app.command("list")
def list_shots(project: ProjectOption = None, output: OutputOption = Output.table) -> None:
    """List the shots of a project in their order."""
    found = projects.list_shots(project_id=project_or_only(project))
    if output is Output.json:
        return print_json([dataclasses.asdict(shot) for shot in found])
    rows = [[str(shot.id), str(shot.position), shot.name] for shot in found]
    return print_rows(["shot", "place", "name"], rows)


@shot_app.command("set")
def set_shot(
    shot: Annotated[str, typer.Argument(help="id of a shot")],
    name: NameOption = None,
    position: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="a new place in the project")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Change a shot's name or place."""
    if name is None and position is None:
        raise TaskValidationError("say what to change: --name or --position", "name")
    _print_shot(projects.set_shot(shot, name=name, position=position), output)


def _user_id(name: str | None) -> UUID | None:
    return None if name is None else accounts.find_user(name)


def _print_project(project: projects.Project, output: Output) -> None:
    if output is Output.json:
        return print_json(dataclasses.asdict(project))
    return say(f"{project.name} is {project.id}, with the aspect ratio {project.aspect_ratio or '1:1'}")


def _print_shot(shot: projects.Shot, output: Output) -> None:
    if output is Output.json:
        return print_json(dataclasses.asdict(shot))
    return say(f"{shot.name} is {shot.id}, at place {shot.position}")
