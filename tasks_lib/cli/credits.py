"""The commands about credits."""

from __future__ import annotations

import dataclasses
from decimal import Decimal, InvalidOperation
from typing import Annotated
from uuid import UUID

import typer

from tasks_lib import accounts
from tasks_lib.billing import ledger
from tasks_lib.billing.cost import amount_text
from tasks_lib.cli.output import Output, OutputOption, complain, console, moment, print_json, say, table_of
from tasks_lib.ids import find_any_task_id

app = typer.Typer(no_args_is_help=True, help="What is left, what things cost, and the books. One credit is one dollar.")


def _amount(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is no amount") from None


Amount = Annotated[Decimal, typer.Argument(parser=_amount, metavar="AMOUNT", help="credits")]
UserArgument = Annotated[str, typer.Argument(help="name of the user")]
UserOption = Annotated[str | None, typer.Option("--user", help="whose, if the token is the service key")]
ReasonOption = Annotated[str, typer.Option("--reason", help="what the ledger will say")]
TaskArgument = Annotated[str, typer.Argument(help="id of a task of anybody's, or its beginning", metavar="TASK")]


@app.command()
def balance(user: UserOption = None, output: OutputOption = Output.table) -> None:
    """Show the credits that are left."""
    left = ledger.get_balance(user_id=_user_id(user))
    _print_amount("balance", left, f"{amount_text(left)} credits are left", output)


@app.command("ledger")
def show_ledger(
    user: UserOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    output: OutputOption = Output.table,
) -> None:
    """List what changed the balance, newest first."""
    entries = ledger.list_entries(user_id=_user_id(user), limit=limit)
    if output is Output.json:
        return print_json([dataclasses.asdict(entry) for entry in entries])
    table = table_of("when", "what", "credits", "task", "reason")
    for entry in entries:
        when, reason = moment(entry.created_at), entry.details.get("reason", "")
        table.add_row(when, entry.kind, amount_text(entry.amount), str(entry.task_id or ""), reason)
    return console.print(table)


@app.command()
def budgets(user: UserOption = None, output: OutputOption = Output.table) -> None:
    """List the most that may be spent in a day, week or month."""
    found = ledger.list_budgets(user_id=_user_id(user))
    if output is Output.json:
        return print_json([dataclasses.asdict(budget) for budget in found])
    for budget in found:
        where = f" in project {budget.project_id}" if budget.project_id else ""
        say(f"{amount_text(budget.amount)} credits a {budget.period}{where}")
    return None


@app.command()
def grant(user: UserArgument, amount: Amount, reason: ReasonOption = "", output: OutputOption = Output.table) -> None:
    """Give a user credits. Needs the database, so it is for operators."""
    left = ledger.grant(accounts.find_user(user), amount, reason)
    _print_amount("balance", left, f"{user} has {amount_text(left)} credits", output)


@app.command()
def refund(
    task_id: TaskArgument,
    amount: Annotated[
        Decimal | None, typer.Option(parser=_amount, metavar="AMOUNT", help="only so much of the task's own charge")
    ] = None,
    reason: ReasonOption = "",
    output: OutputOption = Output.table,
) -> None:
    """Give back what a task and all below it were charged, once. Needs the database, so it is for operators."""
    given = ledger.refund(find_any_task_id(task_id), amount, reason)
    _print_amount("refunded", given, f"{amount_text(given)} credits are given back", output)


@app.command()
def release(task_id: TaskArgument, output: OutputOption = Output.table) -> None:
    """Give back what a task still holds after its end: see reconcile. Needs the database, so it is for operators."""
    given = ledger.release(find_any_task_id(task_id))
    _print_amount("released", given, f"{amount_text(given)} credits are held no more", output)


@app.command()
def budget(
    user: UserArgument,
    amount: Annotated[str, typer.Argument(help="credits, or none to lift the limit")],
    per: Annotated[str, typer.Option(help="day, week or month, from its start in UTC")] = "month",
    project: Annotated[UUID | None, typer.Option(help="only what this project of the user's spends")] = None,
) -> None:
    """Limit what a user may spend in a period. Needs the database, so it is for operators."""
    limit = None if amount == "none" else _amount(amount)
    ledger.set_budget(accounts.find_user(user), per, limit, project_id=project)


@app.command()
def reconcile(output: OutputOption = Output.table) -> None:
    """Compare the ledger with the tasks; the status is 0 only if they agree. For operators."""
    books = ledger.reconcile()
    if output is Output.json:
        print_json(dataclasses.asdict(books))
    else:
        table = table_of("user", "granted", "refunded", "charged", "held", "balance")
        for account in books.accounts:
            parts = (account.granted, account.refunded, account.charged, account.held, account.balance)
            table.add_row(account.name, *map(amount_text, parts))
        console.print(table)
        for kept in books.kept_holds:
            jobs = ", ".join(f"{job['provider']} {job['job_id'] or ''} {job['state']}" for job in kept.jobs or [])
            held = amount_text(kept.amount)
            say(f"task {kept.task_id} still holds {held}, because of {jobs or 'nothing'}")
        for fault in books.faults:
            complain(f"user {fault.user_id}, task {fault.task_id}: {fault.fault}")
        say("ledger and tasks agree" if not books.faults else f"{len(books.faults)} contradictions")
    if books.faults:
        raise typer.Exit(1)


def _user_id(name: str | None) -> UUID | None:
    return accounts.find_user(name) if name is not None else None


def _print_amount(name: str, amount: Decimal, text: str, output: Output) -> None:
    if output is Output.json:
        return print_json({name: amount})
    return say(text)
