"""Named places between two durable effects, where tests kill the process. Each is a no-op unless armed.

<sql function>.executed    its transaction is done and not committed
<sql function>.committed   it is committed, and nobody has been told
execute.begun              a worker holds a task and starts on it
output.written             the bytes lie in storage under a passing name
output.stored              the output lies under its key, and the row does not know it
execute.done               the work is done and not reported
task_run.begun             Prefect shows the execution, and the row does not know that run yet
host.shown                 the row knows the run that hosts it, whose graph is not drawn yet
host.followed              the row has ended, and its run has not
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

VARIABLE = "UNITASK_CRASH_AT"


def crashpoint(name: str) -> None:
    """Die here if `UNITASK_CRASH_AT` is `<name>:<path>`, once: `path` is made, and whoever finds it lives."""
    armed, _, path = os.environ.get(VARIABLE, "").partition(":")
    if armed != name:
        return
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
