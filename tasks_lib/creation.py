"""Creating tasks: the one entry for every task type.

    validate → authorise → prepare → store (one statement, one transaction) → wake the workers

`create_task` and `create_tasks` do all of it; the `create-task` flow calls the same steps one by one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, ValidationError

from tasks_lib import database, deployment_client, storage
from tasks_lib.adapters import require_adapters
from tasks_lib.arguments import Id, Params, Token, checked
from tasks_lib.auth import Caller, authenticate, limits, require_project
from tasks_lib.auth.callers import Project
from tasks_lib.availability import find_maker
from tasks_lib.billing.cost import Quote
from tasks_lib.errors import EngineError, NotFoundError, Refusal, TaskValidationError
from tasks_lib.labels import generate_run_id, generate_task_id
from tasks_lib.params.asked import asked_of, asked_of_child, texts_in
from tasks_lib.params.base import Name, Text, refusal
from tasks_lib.params.lists import expand_array_to_count
from tasks_lib.params.references import references
from tasks_lib.planning.children import Child
from tasks_lib.pricing import leaves_of, price_of
from tasks_lib.queue import ClaimedTask, leases, wakeup
from tasks_lib.queue.summon import summon
from tasks_lib.resolution import resolution_of
from tasks_lib.serving import default_model, pool, require_engine
from tasks_lib.settings import Settings, get_settings
from tasks_lib.types.base import Preparation, Prepared, TaskParams, TaskType
from tasks_lib.types.registry import get_task_type, task_types
from tasks_lib.types.table import TypeRow, find_type, load_rows, usable

__all__ = [
    "Dependency",
    "TaskCreated",
    "TaskRequest",
    "create_task",
    "create_tasks",
    "expand_array_to_count",
    "generate_run_id",
    "generate_task_id",
    "plant_children",
    "quote",
    "store",
    "validate",
    "validate_required_fields",
]

MAX_BATCH = 20_000
MAX_PARAMS_BYTES = 1_000_000


class Dependency(BaseModel):
    """A task that must end first. `policy` says what happens when it does not complete."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task_id: UUID
    policy: Literal["fail", "run_anyway"] = "fail"


def as_dependency(value: Any) -> Any:
    """An id alone as a dependency on that task."""
    return {"task_id": value} if isinstance(value, UUID | str) else value


def _with_names(schema: dict[str, Any]) -> None:
    """Forms offer the types that people may create."""
    schema["enum"] = sorted(name for name, declared in task_types().items() if declared.public)


class TaskRequest(BaseModel):
    """One task to create."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    task_type: str = Field(max_length=100, json_schema_extra=_with_names)
    """A name from `unitask types list`."""

    params: dict[str, Any]
    project_id: UUID
    idempotency_key: Name | None = None
    depends_on: tuple[Annotated[Dependency, BeforeValidator(as_dependency)], ...] = ()
    """Tasks that must end first: `{task_id, policy}`, or an id alone."""

    priority: int = Field(default=0, ge=-100, le=100)


@dataclass(frozen=True)
class TaskCreated:
    """The answer to a create. `created` is false when the same request was stored before."""

    task_id: UUID
    status: str
    task_type: str
    created: bool
    quote: Quote | None = None
    """What it will cost. One that comes by a deployment says nothing here: ask for its `quote` before."""
    batch: tuple[UUID, ...] = ()
    """All tasks of a call that may make several, in order."""


@dataclass(frozen=True)
class ValidRequest:
    """A request whose parameters are known to be good."""

    request: TaskRequest
    task_type: TaskType[Any]
    params: TaskParams
    index: int = 0
    request_hash: str = field(default="")


@checked
def create_task(
    task_type: Text | InstanceOf[TaskRequest] | Mapping[str, Any],
    params: Params | None = None,
    *,
    project_id: Id | None = None,
    token: Token = None,
    idempotency_key: str | None = None,
    depends_on: Sequence[UUID | str | Dependency] = (),
    priority: int = 0,
    via: Literal["deployment"] | None = None,
    token_block: Text | None = None,
) -> TaskCreated:
    """Validate, authorise and store one task, and wake the workers.

    The type, params and project are given so, or together as one `BaseTaskParams` or a dictionary with their names.

    With `via` deployment, the flow `create-task` does it on the service's side, and this call needs Prefect's API in
    place of the database; and the service's public key, to which the token is sealed, unless `token_block` names the
    Prefect Secret block that holds it.

    Repeating it with the same `idempotency_key` answers the first task; with another request under that key it
    raises `ConflictError`. Raises `TaskValidationError`, `AuthenticationError`, `NotFoundError` and
    `InsufficientCreditsError`; nothing is stored then.
    """
    beside = {
        "params": params,
        "project_id": project_id,
        "idempotency_key": idempotency_key,
        "depends_on": depends_on,
        "priority": priority,
    }
    if isinstance(task_type, str):
        for name in ("params", "project_id"):
            if beside[name] is None:
                raise TaskValidationError(f"`{name}`: Missing required argument", name)
        request = {"task_type": task_type, **beside}
    else:
        whole = task_type.model_dump() if isinstance(task_type, TaskRequest) else dict(task_type)
        request = {"idempotency_key": None, **whole, **{name: value for name, value in beside.items() if value}}
    if via == "deployment":
        return _create_by_deployment(request, token, token_block)
    if token_block is not None:
        raise TaskValidationError("`token_block` goes with `via` deployment", "token_block")
    return create_tasks([request], token=token)[0]


def _create_by_deployment(given: Mapping[str, Any], token: Token, token_block: str | None) -> TaskCreated:
    # A key always: a sealed token that somebody sends again with its request makes nothing again.
    (valid,) = validate([{**given, "idempotency_key": given["idempotency_key"] or str(uuid4())}], offline=True)
    request = valid.request.model_dump(mode="json")
    task_id, status, created = deployment_client.trigger(request, token, token_block)
    return TaskCreated(task_id, status, valid.task_type.name, created)


def create_tasks(requests: Sequence[TaskRequest | Mapping[str, Any]], *, token: Token = None) -> list[TaskCreated]:
    """Create a batch in one transaction: all of it, or none and an error whose `refusals` name every refused row."""
    caller = authenticate(token)
    caller.require("tasks:create")
    # Before anything is looked at: what is refused has been a call.
    limits.count_create(caller)
    valid = validate(requests)
    with limits.already_counted():
        return store(valid, caller)


def validate(requests: Sequence[TaskRequest | Mapping[str, Any]], *, offline: bool = False) -> list[ValidRequest]:
    """Check a batch. Raises for all rows that are wrong at once.

    The database is asked only about a type that the code does not know, and not if `offline`.
    """
    given_as: type = type(requests)
    if not issubclass(given_as, Sequence) or issubclass(given_as, str | bytes):
        raise TaskValidationError(f"a batch is a list of tasks, not {given_as.__name__}", "requests")
    if not 1 <= len(requests) <= MAX_BATCH:
        raise TaskValidationError(f"a batch has 1 to {MAX_BATCH} tasks, not {len(requests)}", "requests")
    valid: list[ValidRequest] = []
    refusals: list[Refusal] = []
    for index, given in enumerate(requests):
        try:
            valid.append(replace(_validate_one(given, offline=offline), index=index))
        except TaskValidationError as error:
            refusals.append(Refusal(index, error.field, error.kind, str(error)))
    if refusals:
        raise database.refused(refusals)
    return valid


@checked
def quote(
    task_type: str,
    params: Params,
    *,
    project_id: Id,
    token: Token = None,
) -> Quote:
    """What a task would cost, in credits; nothing is stored. Raises what `create_task` raises for the same request.

    It is what `create_task` answers and freezes as long as the owner does not change the price meanwhile.
    """
    caller = authenticate(token)
    caller.require("tasks:create")
    limits.count_quote(caller)
    valid = validate([{"task_type": task_type, "params": params, "project_id": project_id}])
    (row,) = _rows(valid, caller)
    return Quote.of(row["price"])


def store(
    valid: Sequence[ValidRequest], caller: Caller, *, claimable_after: float = 0, made_by_run_id: UUID | None = None
) -> list[TaskCreated]:
    """Authorise, prepare and insert validated requests for a caller, and wake the workers.

    `claimable_after` keeps them from being claimed for so many seconds, except by their id. `made_by_run_id` is the run
    of a deployment that asks for them: to cancel it is to cancel them.
    """
    caller.require("tasks:create")
    limits.count_create(caller, len(valid))
    common = {
        "run_after_seconds": claimable_after,
        "batch_id": str(uuid4()) if len(valid) > 1 else None,
        "made_by_run_id": made_by_run_id and str(made_by_run_id),
    }
    rows = [{**row, **common} for row in _rows(valid, caller)]
    answers = database.call("create_tasks", p_rows=json.dumps(rows), p_enforce_credits=get_settings().credits_enforced)
    woken = {answer["run_type"] for answer in answers if answer["created"]}
    wakeup.notify(woken)
    summon(woken)
    return [
        TaskCreated(
            answer["task_id"], answer["status"], item.task_type.name, answer["created"], Quote.of(answer["price"])
        )
        for item, answer in zip(valid, answers, strict=True)
    ]


def plant_children(task: ClaimedTask) -> None:
    """Plan a claimed orchestrator and insert its children; those that an earlier host planted are adopted.

    Their prices were frozen with the orchestrator's own.
    """
    declared = get_task_type(task.task_type)
    assert declared.plan is not None, f"{task.task_type} plans nothing"
    try:
        children = declared.plan(task.params, task.placement)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # A row that was written by hand: its next host would stumble over it too.
        raise TaskValidationError(f"its stored parameters are no {declared.name}: {error!r:.500}", "params") from None
    index = {child.key: i for i, child in enumerate(children)}
    fields = [asked_of_child(task.asked, child.sources, child.params) for child in children]
    if task.asked is not None:
        # The film is the output of the last one, and so is what its result says.
        fields[-1]["notes"] = task.asked["notes"]
    leases.plant(
        task.lease,
        [
            {
                "task_type": child.task_type,
                "project_id": str(task.project_id),
                "params": child.params,
                "asked": asked,
                "parent_task_id": str(task.id),
                "child_key": child.key,
                "placement": child.placement,
                "model": child.model or default_model(child.task_type, get_settings()),
                "depends_on": [{"index": index[key]} for key in child.after],
            }
            for child, asked in zip(children, fields, strict=True)
        ],
    )


@checked
def validate_required_fields(params: Mapping[str, Any], required_fields: Sequence[str]) -> None:
    """Raise `TaskValidationError` for the first field that is missing, null, blank or an empty list."""
    for name in required_fields:
        value = params.get(name)
        if value is None:
            raise TaskValidationError(f"`{name}` is required", name)
        if (isinstance(value, str) and not value.strip()) or (isinstance(value, list | tuple) and not value):
            raise TaskValidationError(f"`{name}` cannot be empty", name)


def public_type(name: str, *, offline: bool = False) -> TaskType[Any]:
    """The task type of that name, if people may create it. Raises `TaskValidationError`."""
    declared = get_task_type(name) if offline else find_type(name)
    if not declared.public:
        raise TaskValidationError(f"`{declared.name}` is made by its orchestrator and not by people", "task_type")
    return declared


def _validate_one(given: TaskRequest | Mapping[str, Any], *, offline: bool) -> ValidRequest:
    request = given if isinstance(given, TaskRequest) else _request(given)
    declared = public_type(request.task_type, offline=offline)
    params = declared.params.parse(request.params)
    body = request.model_dump(mode="json", exclude={"params", "idempotency_key"})
    body["params"] = params.model_dump(mode="json", exclude_unset=True)
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    if len(text) > MAX_PARAMS_BYTES:
        raise TaskValidationError(f"the parameters take more than {MAX_PARAMS_BYTES} bytes", "params")
    return ValidRequest(request, declared, params, request_hash=hashlib.sha256(text.encode()).hexdigest())


def _request(given: Mapping[str, Any]) -> TaskRequest:
    if not isinstance(given, Mapping):
        raise TaskValidationError(
            f"a task is an object of `task_type`, `params` and so on, not {type(given).__name__}", "requests"
        )
    values = {str(key): value for key, value in given.items()}
    if isinstance(values.get("params"), BaseModel):
        values["params"] = values["params"].model_dump(mode="json", exclude_unset=True)
    try:
        return TaskRequest.model_validate(values)
    except ValidationError as error:
        raise refusal(TaskRequest, error.errors()) from None


def _rows(valid: Sequence[ValidRequest], caller: Caller) -> list[dict[str, Any]]:
    projects = {id_: require_project(caller, id_) for id_ in {item.request.project_id for item in valid}}
    _require_uploads(valid)
    types = load_rows()
    return [_row(item, projects[item.request.project_id], types) for item in valid]


def _row(item: ValidRequest, project: Project, types: Mapping[str, TypeRow]) -> dict[str, Any]:
    settings = get_settings()
    row = usable(item.task_type, types)
    prepared: Prepared = item.task_type.prepare(
        item.params, Preparation(project.id, lambda custom: resolution_of(project, custom).resolution)
    )
    maker = find_maker(item.task_type, prepared.model, project.user_id, settings, row.run_type)
    model = prepared.model or default_model(item.task_type.name, settings)
    leaves = leaves_of(item.task_type, prepared.params, prepared.placement, model)
    for leaf in leaves:
        part = get_task_type(leaf.task_type)
        if (usable(part, types).run_type if item.task_type.plan else maker.run_type) == "gpu":
            _require_engine(part, leaf, item.params, settings)
    return {
        "task_type": item.task_type.name,
        "run_type": maker.run_type if maker.note else None,
        "project_id": str(project.id),
        "params": prepared.params,
        "asked": asked_of(item.params, maker.note),
        "priority": item.request.priority,
        "model": model,
        "placement": prepared.placement,
        "idempotency_key": item.request.idempotency_key,
        "request_hash": item.request_hash,
        "price": price_of(item.task_type, leaves, {leaf.task_type: types[leaf.task_type].terms() for leaf in leaves}),
        "references": references(item.params),
        "depends_on": [dependency.model_dump(mode="json") for dependency in item.request.depends_on],
    }


def _require_engine(declared: TaskType[Any], leaf: Child, params: TaskParams, settings: Settings) -> None:
    """Refuse work that no engine here could do. Raises `TaskValidationError` that names the field of the request."""
    declared = get_task_type(leaf.task_type)
    if declared.engine_kind and not settings.database_url and pool(declared, settings) == "gpu":
        require_adapters(leaf.params, asked_of_child(None, leaf.sources, leaf.params)["fields"], settings)
    try:
        require_engine(declared, leaf.params, leaf.model, settings)
    except EngineError as error:
        named = re.match(r"`([a-z_]+)", str(error))
        known = type(params).model_fields
        field = named[1] if named and named[1] in known else "model_name" if "model_name" in known else "task_type"
        raise TaskValidationError(str(error), field) from None


def _require_uploads(valid: Sequence[ValidRequest]) -> None:
    """Every upload that a request names must be there, in the request's own project. Raises for all rows at once."""

    @cache
    def there(reference: str, project_id: UUID) -> bool:
        try:
            return storage.exists(storage.key_of(reference, project_id))
        except NotFoundError:
            return False

    missing = [
        Refusal(item.index, path, "not_found", f"`{path}`: there is no upload `{value}`")
        for item in valid
        for path, value in texts_in(item.params.model_dump(mode="json"))
        if value.startswith(storage.SCHEME) and not there(value, item.request.project_id)
    ]
    if missing:
        raise database.refused(missing)
