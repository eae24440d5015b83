"""Credits as people and operators see them. One credit is one US dollar; amounts have six decimals.

What takes no token is for operators: it needs the database, as its owner or a member of `unitask_owner`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, get_args
from uuid import UUID

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.dialects.postgresql import insert

from db import tables
from tasks_lib import database
from tasks_lib.auth import authenticate
from tasks_lib.billing.cost import UNIT
from tasks_lib.errors import NotFoundError, TaskValidationError

Token = str | SecretStr | None
Period = Literal["day", "week", "month"]


@dataclass(frozen=True)
class Entry:
    """A row of the ledger; `amount` is what it added to the balance."""

    created_at: datetime
    kind: str
    amount: Decimal
    task_id: UUID | None
    project_id: UUID | None
    details: dict[str, Any]


@dataclass(frozen=True)
class Budget:
    """The most that a user may spend in a calendar day, week or month (UTC), in all or in one project."""

    user_id: UUID
    project_id: UUID | None
    period: str
    amount: Decimal


@dataclass(frozen=True)
class Account:
    """A user's credits, and what became of them: balance = granted + refunded - charged - held."""

    user_id: UUID
    name: str
    balance: Decimal
    granted: Decimal
    refunded: Decimal
    charged: Decimal
    held: Decimal


@dataclass(frozen=True)
class Fault:
    """Where the ledger contradicts the tasks."""

    user_id: UUID
    task_id: UUID | None
    life: int | None
    fault: str


@dataclass(frozen=True)
class KeptHold:
    """What a task that has ended holds all the same: nobody knows whether these jobs were done at their provider."""

    user_id: UUID
    task_id: UUID
    life: int
    amount: Decimal
    held_at: datetime
    jobs: list[dict[str, Any]] | None


@dataclass(frozen=True)
class Reconciliation:
    """The books of all users at one moment."""

    accounts: tuple[Account, ...]
    faults: tuple[Fault, ...]
    kept_holds: tuple[KeptHold, ...]


def get_balance(*, user_id: UUID | None = None, token: Token = None) -> Decimal:
    """The credits that the caller has left; of the user that the service key names."""
    balance: Decimal = database.scalar("balance", p_user_id=_payer(user_id, token))
    return balance


def list_entries(*, user_id: UUID | None = None, limit: int = 50, token: Token = None) -> list[Entry]:
    """The caller's ledger, newest first."""
    rows = tables.credit_ledger
    statement = (
        sa.select(*(rows.c[name] for name in Entry.__dataclass_fields__))
        .where(rows.c.user_id == _payer(user_id, token))
        .order_by(rows.c.id.desc())
        .limit(limit)
    )
    with database.transaction() as connection:
        return [Entry(**row) for row in connection.execute(statement).mappings()]


def list_budgets(*, user_id: UUID | None = None, token: Token = None) -> list[Budget]:
    """The caller's budgets."""
    rows = tables.credit_budgets
    statement = (
        sa.select(*(rows.c[name] for name in Budget.__dataclass_fields__))
        .where(rows.c.user_id == _payer(user_id, token))
        .order_by(rows.c.project_id.nulls_first(), rows.c.period)
    )
    with database.transaction() as connection:
        return [Budget(**row) for row in connection.execute(statement).mappings()]


def grant(user_id: UUID, amount: Decimal, reason: str = "") -> Decimal:
    """Give a user credits, and return the new balance. For operators."""
    balance: Decimal = database.scalar("grant_credits", p_user_id=user_id, p_amount=_checked(amount), p_reason=reason)
    return balance


def refund(task_id: UUID, amount: Decimal | None = None, reason: str = "") -> Decimal:
    """Give back what a task and all below it were charged, or `amount` of its own charge; return the credits.

    Raises `ConflictError` when there is no such charge, or when it was refunded before. For operators.
    """
    _require_task(task_id)
    refunded: Decimal = database.scalar(
        "refund_credits", p_task_id=task_id, p_amount=amount and _checked(amount), p_reason=reason
    )
    return refunded


def release(task_id: UUID) -> Decimal:
    """Give back what a task that has ended still holds, because a person has decided so. For operators."""
    _require_task(task_id)
    released: Decimal = database.scalar("release_holds", p_task_id=task_id)
    return released


def set_budget(user_id: UUID, period: str, amount: Decimal | None, *, project_id: UUID | None = None) -> None:
    """Limit what a user may spend in a period, in all or in one project; None lifts the limit. For operators.

    A create that would break it raises `InsufficientCreditsError`; what runs already goes on.
    """
    if period not in get_args(Period):
        raise TaskValidationError(f"`period` must be one of {', '.join(get_args(Period))}, not {period!r}", "period")
    rows, p = tables.credit_budgets, tables.projects
    key = {"user_id": user_id, "project_id": project_id, "period": period}
    with database.transaction() as connection:
        if project_id and not connection.scalar(sa.select(p.c.id).where(p.c.id == project_id, p.c.user_id == user_id)):
            raise NotFoundError(f"the user has no project {project_id}")
        if amount is None:
            connection.execute(
                sa.delete(rows).where(*(rows.c[name].is_not_distinct_from(value) for name, value in key.items()))
            )
            return
        stated = insert(rows).values(**key, amount=_checked(amount, least=Decimal(0)))
        connection.execute(
            stated.on_conflict_do_update(index_elements=list(key), set_={"amount": stated.excluded.amount})
        )


def reconcile() -> Reconciliation:
    """Compare the ledger with the tasks, for all users, at one moment. For operators."""
    with database.transaction() as connection:
        # One snapshot for all three questions.
        connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        return Reconciliation(
            tuple(Account(**row) for row in database.call_in(connection, "credit_accounts")),
            tuple(Fault(**row) for row in database.call_in(connection, "ledger_faults")),
            tuple(KeptHold(**row) for row in database.call_in(connection, "unsettled_holds")),
        )


def _payer(user_id: UUID | None, token: Token) -> UUID:
    caller = authenticate(token)
    caller.require("tasks:read")
    if not caller.is_service:
        if user_id not in (None, caller.user_id):
            raise NotFoundError(f"there is no user {user_id}")
        user_id = caller.user_id
    if user_id is None:
        raise TaskValidationError("the service key has no credits; name a user", "user_id")
    return user_id


def _checked(amount: Decimal, least: Decimal = UNIT) -> Decimal:
    if not (amount.is_finite() and least <= amount < 10**8 and amount == amount.quantize(UNIT)):
        raise TaskValidationError(
            f"`amount` must be from {least:f} to 100 million credits, with six decimals at the most, not {amount}",
            "amount",
        )
    return amount


def _require_task(task_id: UUID) -> None:
    with database.transaction() as connection:
        if not connection.scalar(sa.select(tables.tasks.c.id).where(tables.tasks.c.id == task_id)):
            raise NotFoundError(f"there is no task {task_id}")
