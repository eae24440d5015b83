"""The error tree. Every error that the library raises on purpose is one of these.

TaskError                       retried  charged  HTTP  what it means
├── TaskValidationError         no       no       422   a parameter is wrong; `field` names it
├── AuthenticationError         no       no       401   nobody valid is calling
├── AuthorizationError          no       no       403   the caller may not do this kind of thing
├── NotFoundError               no       no       404   no such thing, or it is somebody else's
├── ConflictError               no       no       409   the same key with another body, or a move that the state forbids
├── InsufficientCreditsError    no       no       402   the balance does not cover the hold
├── RateLimitError              yes      no       429   too many calls; `retry_after` says when to come back
├── LeaseLostError              no       no       409   another worker holds the task now, or it was cancelled
├── DatabaseError               yes      no       503   Postgres could not be reached or refused the statement
├── ProviderError               maybe    no       502   an external API failed
│   └── UnknownOutcomeError     no       no       502   nobody knows whether it took a job: the hold on credits stays
├── StorageError                yes      no       503   the media storage is full, away or does not answer
└── EngineError                 maybe    no       500   the pixels could not be made here

"retried" is what a worker does with a task that ends so; *maybe* is decided by `retryable` of the instance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Refusal:
    """Why one row of a batch was refused; `index` counts the rows from 0, `kind` is an error's `kind`."""

    index: int
    field: str | None
    kind: str
    message: str


class TaskError(Exception):
    """Base of all errors of the library; its text is meant for the person who caused it."""

    http_status: ClassVar[int] = 500
    retryable: bool = False
    refusals: tuple[Refusal, ...] = ()
    """For a batch: every row that was refused. Nothing of the batch was stored."""

    @property
    def kind(self) -> str:
        """The stable name that is stored with a failed task: `engine` for `EngineError`, `validation`, ..."""
        return _snake(type(self).__name__.removesuffix("Error").removeprefix("Task") or "Task")


class TaskValidationError(TaskError):
    """A parameter is wrong. Raise it before anything is stored; `field` is its path, `loras[1].strength`."""

    http_status = 422

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class AuthenticationError(TaskError):
    """No valid credential. The text always contains the word Authentication, which callers test for."""

    http_status = 401

    def __init__(self, message: str = "a token is required") -> None:
        # Once only: Prefect makes an error that a run has stored again from its text.
        super().__init__(f"Authentication failed: {message.removeprefix('Authentication failed: ')}")


class AuthorizationError(TaskError):
    """The caller is known and may not do this. For things of other people raise `NotFoundError` instead."""

    http_status = 403


class NotFoundError(TaskError):
    """No such thing, or one that belongs to somebody else: the two are told apart nowhere."""

    http_status = 404


class ConflictError(TaskError):
    """The request contradicts what is stored."""

    http_status = 409


class InsufficientCreditsError(TaskError):
    """The balance does not cover what the tasks would hold."""

    http_status = 402


class RateLimitError(TaskError):
    """Too many calls. `retry_after` is in seconds."""

    http_status = 429
    retryable = True

    def __init__(self, message: str, retry_after: float = 60.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LeaseLostError(TaskError):
    """The lease is not the newest, or the task was cancelled. Stop working on it; report nothing."""

    http_status = 409


class DatabaseError(TaskError):
    """Postgres could not be reached, or refused a statement that should have passed."""

    http_status = 503
    retryable = True

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class ProviderError(TaskError):
    """An external API failed. `retryable` is true for overload, time-outs and server errors."""

    http_status = 502

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class UnknownOutcomeError(ProviderError):
    """A submission's answer was lost, and it cannot be found out whether there is a job that will be charged for."""


class StorageError(TaskError):
    """Bytes could not be stored or fetched, and that was waited for already. A missing file is `NotFoundError`."""

    http_status = 503
    retryable = True


class EngineError(TaskError):
    """The pixels could not be made here. `retryable` is true when another try may succeed (memory, lost process)."""

    http_status = 500

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


_ALWAYS_SO = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError, RecursionError)


def unforeseen(error: Exception) -> EngineError:
    """Return what a task says that ended by an exception which nobody raises on purpose.

    What is wrong with its row, or with our code for such a row, is wrong the next time too; all else is tried again.
    """
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, _ALWAYS_SO):
        return EngineError(f"its stored parameters cannot be worked with: {text}")
    return EngineError(text, retryable=True)


def reword(error: TaskError, text: str, field: str | None = None) -> TaskError:
    """Give an error another text, and a field where it can name one."""
    error.args = (text, *error.args[1:])
    if field and isinstance(error, TaskValidationError):
        error.field = field
    return error


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
