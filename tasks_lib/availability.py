"""Who makes the tasks of a type on this machine, and where nobody does, the shortest way to change that.

Known only where creators and workers share one machine and its settings, which is what the embedded Postgres means;
elsewhere the workers have the models and keys, and say so when they lack one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tasks_lib.arguments import Token, checked
from tasks_lib.auth import authenticate
from tasks_lib.errors import AuthenticationError, DatabaseError, EngineError, ProviderError, TaskValidationError
from tasks_lib.models import WEIGHTLESS
from tasks_lib.providers.keys import has_own_key
from tasks_lib.providers.requests import BUILDS
from tasks_lib.providers.routing import providers, route
from tasks_lib.serving import default_model, example_of_model, model_for, pool
from tasks_lib.settings import Settings, get_settings
from tasks_lib.types.base import TaskType
from tasks_lib.types.registry import task_types
from tasks_lib.types.table import TypeRow, load_rows, price_in_words, usable, without_code


@dataclass(frozen=True)
class Maker:
    """Who makes a task: the workers of a pool, and what the result must say of that."""

    run_type: str
    note: str | None = None


@dataclass(frozen=True)
class TypeFacts:
    """A task type that people may create, or a row of one without code, in its owner's words.

    `works` is None where only the workers know; `needs` is what is missing.
    """

    name: str
    display_name: str
    description: str
    run_type: str
    category: str
    is_active: bool
    has_code: bool
    """False for a row of `task_types` that no module belongs to: no task of it can be made or done."""
    price: str
    own: list[str]
    """The columns of its row that the owner has changed."""
    works: bool | None
    needs: str | None
    """The shortest way to make it work here."""

    @property
    def works_here(self) -> str:
        """The same in a few words: `yes`, or the kind of thing that it needs."""
        if not self.is_active:
            return "is switched off"
        if self.works is None:
            return "its workers know"
        return "yes" if self.works else f"needs {str(self.needs).partition(':')[0]}"


@checked
def list_task_types(*, token: Token = None) -> list[TypeFacts]:
    """List the types that people may create, and for each whether a request that names no model can be made here.

    Rows of `task_types` without code are among them, and say so. Keys that the token's user has given count; without
    a token, those of the service alone.
    """
    try:
        user_id = authenticate(token).user_id
    except AuthenticationError:
        if token:
            raise
        user_id = None
    settings = get_settings()
    rows = _rows()
    known = [_facts(declared, rows, user_id, settings) for declared in task_types().values() if declared.public]
    others = [row for row in (rows or {}).values() if row.name not in task_types() and not row.is_retired]
    return known + [_facts_of_row(row) for row in others]


def facts_of(declared: TaskType[Any]) -> TypeFacts:
    """Return what is known of one type; keys of the service alone count."""
    return _facts(declared, _rows(), None, get_settings())


def _rows() -> Mapping[str, TypeRow] | None:
    """The rows of the types; None while the database is away."""
    try:
        return load_rows()
    except DatabaseError:
        return None


def _facts(
    declared: TaskType[Any], rows: Mapping[str, TypeRow] | None, user_id: UUID | None, settings: Settings
) -> TypeFacts:
    row = rows.get(declared.name) if rows is not None else None
    works, needs, run_type = None, None, row.run_type if row else pool(declared, settings)
    try:
        if rows is not None:
            usable(declared, rows)
        if not settings.database_url:
            works, run_type = True, find_maker(declared, None, user_id, settings, run_type).run_type
    except TaskValidationError as error:
        works, needs = False, str(error).removeprefix(f"`{declared.name}` needs ")
    said: Any = row or declared
    return TypeFacts(
        declared.name,
        said.display_name,
        said.description or "",
        run_type,
        said.category,
        is_active=said.is_active is not False,
        has_code=True,
        price=price_in_words(declared, row),
        own=sorted(row.own) if row else [],
        works=works,
        needs=needs,
    )


def _facts_of_row(row: TypeRow) -> TypeFacts:
    return TypeFacts(
        row.name,
        row.display_name,
        row.description or "",
        row.run_type,
        row.category,
        is_active=not row.is_off,
        has_code=False,
        price=price_in_words(None, row),
        own=[],
        works=False,
        needs=f"code: {without_code(row)}",
    )


def find_maker(
    declared: TaskType[Any], alias: str | None, user_id: UUID | None, settings: Settings, run_type: str | None = None
) -> Maker:
    """Find who makes a task of a type, of the model `alias` if its request names one; `run_type` is its row's.

    A type for whose provider nobody has given a key is made by our own engines if they can: by the model that the
    request names, or without one. Raises `TaskValidationError` that says the shortest way where nobody can make it.
    """
    run_type = run_type or pool(declared, settings)
    if settings.database_url or declared.plan is not None:
        return Maker(run_type)
    if run_type == "gpu":
        _require_model(declared, alias, settings)
        return Maker(run_type)
    if declared.name not in BUILDS:
        return Maker(run_type)
    try:
        served = route(declared.name, settings)
    except ProviderError as error:
        raise TaskValidationError(str(error), "task_type") from None
    provider = providers(settings)[served.provider]
    if provider.has_key or has_own_key(user_id, served.provider):
        return Maker(run_type)
    if declared.name not in settings.providers and _engine_can(declared, alias, settings):
        return Maker("gpu", f"made by an engine of this machine: nobody has given a key for {served.provider}")
    raise TaskValidationError(_shortest_way(declared, served.provider, settings), "task_type")


def _engine_can(declared: TaskType[Any], alias: str | None, settings: Settings) -> bool:
    if declared.execute is None or declared.engine_kind is None:
        return False
    if alias is None:
        return declared.engine_kind in WEIGHTLESS
    return alias in settings.models and declared.engine_kind in settings.models[alias].kinds


def _require_model(declared: TaskType[Any], alias: str | None, settings: Settings) -> None:
    if declared.engine_kind is None:
        return
    try:
        model_for(declared.engine_kind, alias or default_model(declared.name, settings), settings)
    except EngineError as error:
        if alias is None and default_model(declared.name, settings) is None:
            raise TaskValidationError(
                f"`{declared.name}` needs a model: {example_of_model(declared, settings)}", "task_type"
            ) from None
        raise TaskValidationError(str(error), "model_name" if alias else "task_type") from None


def _shortest_way(declared: TaskType[Any], chosen: str, settings: Settings) -> str:
    """A key of the provider that serves a type, or of another that could, or a model."""
    known = providers(settings)
    ways = [f"set {known[chosen].key_setting}=... before `unitask up`, or give your own by `unitask keys set {chosen}`"]
    ways += [
        f'set UNITASK_PROVIDERS=\'{{"{declared.name}": "{other}"}}\', for which there is a key'
        for other in BUILDS[declared.name]
        if other != chosen and known[other].has_key
    ]
    if declared.execute is not None and declared.engine_kind is not None:
        ways.append(f"let a model of this machine make it: {example_of_model(declared, settings)}")
    return f"`{declared.name}` needs a key for {chosen}: " + "; or ".join(ways)
