"""The size of what a request makes, from the request or from its project."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from tasks_lib.arguments import Id, Token, checked
from tasks_lib.auth import authenticate, require_project
from tasks_lib.auth.callers import Project
from tasks_lib.errors import TaskValidationError
from tasks_lib.params.base import Resolution, Text
from tasks_lib.params.resolution import ASPECT_RATIOS, DEFAULT_ASPECT_RATIO
from tasks_lib.types.base import TaskParams


@dataclass(frozen=True)
class ProjectResolution:
    """A size in pixels, WIDTHxHEIGHT, and where it came from: an aspect ratio, or `custom`."""

    resolution: str
    aspect_ratio: str


@checked
def resolve_project_resolution(
    project_id: Id, custom_resolution: Text | None = None, *, token: Token = None
) -> ProjectResolution:
    """The size that a request gets: its own if it has one, else the one of its project's aspect ratio."""
    caller = authenticate(token)
    caller.require("tasks:read")
    return resolution_of(require_project(caller, _uuid(project_id, "project_id")), custom_resolution)


def resolution_of(project: Project, custom: str | None) -> ProjectResolution:
    """The size that is stored: the given one, or the one of the project's aspect ratio."""
    if custom:
        return ProjectResolution(_CustomResolution.check(custom), "custom")
    ratio = project.aspect_ratio if project.aspect_ratio in ASPECT_RATIOS else DEFAULT_ASPECT_RATIO
    assert ratio is not None
    return ProjectResolution(ASPECT_RATIOS[ratio], ratio)


class _CustomResolution(TaskParams):
    resolution: Resolution

    @classmethod
    def check(cls, value: str) -> str:
        return cls.parse({"resolution": value.strip()}).resolution


def _uuid(value: UUID | str, name: str) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise TaskValidationError(f"`{name}` must be a UUID, not {value!r}", name) from None
