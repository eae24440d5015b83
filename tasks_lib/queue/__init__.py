"""The life of a task after its creation, for people who write workers: claim, heartbeat, progress, complete, fail.

Each is a thin call of one SQL function; `lease_id` is the fence that every one of them passes.
"""

from tasks_lib.queue.leases import (
    ClaimedTask,
    Heartbeat,
    Lease,
    Output,
    Progress,
    claim,
    complete,
    fail,
    give_back,
    heartbeat,
    plant,
    register_worker,
    report_progress,
    retire_worker,
)

__all__ = [
    "ClaimedTask",
    "Heartbeat",
    "Lease",
    "Output",
    "Progress",
    "claim",
    "complete",
    "fail",
    "give_back",
    "heartbeat",
    "plant",
    "register_worker",
    "report_progress",
    "retire_worker",
]
