"""`python -m deployments.server FD`: Prefect's server on a listening socket that the supervisor owns.

It is what `prefect server start` runs, with these differences. The socket outlives a restart of the server, so clients
wait instead of failing, and nobody else takes the port. And the garbage collector, which finds nothing while thousands
of classes are being imported, is off until the server serves: that is a fifth of its start.
"""

import gc
import socket
import sys
from typing import Any

gc.disable()

import uvicorn  # noqa: E402
from prefect.server.api.server import create_app  # noqa: E402
from prefect.server.database.orm_models import FlowRun, TaskRun  # noqa: E402
from prefect.server.schemas.actions import DeploymentScheduleUpdate  # noqa: E402
from prefect.settings import get_current_settings  # noqa: E402


def _let_schedules_insert_runs() -> None:
    """Give Prefect 3.8 under SQLAlchemy 2.1 what it had under 2.0: a bulk insert that skips the attribute `state`.

    Without it no schedule ever fires: "Can't evaluate bulk DML statement" in the log, once a minute.
    """

    def skip(_cls: type, _mapping: dict[str, object], _value: object) -> None:
        """The state is inserted by a statement of its own."""

    for model in (FlowRun, TaskRun):
        state = vars(model)["state"]
        if hasattr(state, "bulk_dml"):
            state.inplace.bulk_dml(skip)


def _let_switched_schedules_keep_parameters() -> None:
    """Leave the parameters of a schedule alone when a request names none: Prefect empties them.

    Its UI sends `{"active": false}` for the switch, and a schedule that is switched on again would run without them.
    """
    dump = DeploymentScheduleUpdate.model_dump

    def given(self: DeploymentScheduleUpdate, **options: Any) -> dict[str, Any]:
        values = dump(self, **options)
        if "parameters" not in self.model_fields_set:
            values.pop("parameters", None)
        return values

    setattr(DeploymentScheduleUpdate, "model_dump", given)  # noqa: B010


def main() -> None:
    """Serve until a signal comes."""
    _let_schedules_insert_runs()
    _let_switched_schedules_keep_parameters()
    settings = get_current_settings().server
    config = uvicorn.Config(
        create_app(final=True),
        timeout_keep_alive=settings.api.keepalive_timeout,
        ws_ping_interval=settings.api.websocket_ping_interval,
        ws_ping_timeout=settings.api.websocket_ping_timeout,
        log_level=settings.logging_level.lower(),
    )
    gc.enable()
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
