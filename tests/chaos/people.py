"""What people do on Prefect's pages, as the requests that its UI sends."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

Row = dict[str, Any]

LIVE = ["SCHEDULED", "PENDING", "RUNNING", "PAUSED"]
TO_RETRY = ["FAILED", "CANCELLED", "CRASHED"]
FLOWS = ["travel_orchestrator"]
CHANGES_NOTHING = {httpx.codes.NOT_FOUND, httpx.codes.CONFLICT}
SETTLED = timedelta(seconds=150)
"""In this time `maintenance` has seen a change; what changes again before it does was never seen by anybody."""
UNSURE = timedelta(seconds=10)
"""A time so near to a change of its schedule may count to either side."""


@dataclass
class Spell:
    """A schedule as it was from one change to the next."""

    schedule_id: str
    anchor: datetime
    seconds: int
    since: datetime
    until: datetime | None = None

    def times(self) -> list[datetime]:
        """The times that were planned while it was so, away from its two ends."""
        assert self.until is not None
        first = (self.since + UNSURE - self.anchor).total_seconds() // self.seconds + 1
        found = []
        while (at := self.anchor + timedelta(seconds=first * self.seconds)) < self.until - UNSURE:
            found.append(at)
            first += 1
        return found


@dataclass
class People:
    """Somebody with the UI. Every method draws from `rng` alike, whatever it finds, so a seed repeats its moves."""

    api: httpx.Client
    rng: random.Random
    batch: Row
    """The parameters of a scheduled batch."""
    triggered: list[str] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    paused: dict[str, str] = field(default_factory=dict)
    """Path of what is paused, and the name of its switch."""
    limited: set[str] = field(default_factory=set)
    spells: list[Spell] = field(default_factory=list)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request until the server answers; what it refuses because it is no longer so changes nothing."""
        while True:
            try:
                answer = self.api.request(method, path, json=body)
            except httpx.TransportError:
                time.sleep(0.5)
                continue
            if answer.status_code in CHANGES_NOTHING:
                return None
            if not answer.is_server_error:
                return answer.raise_for_status().json() if answer.content else {}
            time.sleep(0.5)

    def deployment(self, name: str) -> Row:
        """A deployment, `flow/name`."""
        return dict(self.call("GET", f"/deployments/name/{name}"))

    def trigger(self, parameters: Row) -> None:
        """Run the deployment of travels."""
        path = f"/deployments/{self.deployment('travel_orchestrator/travel-orchestrator')['id']}/create_flow_run"
        # The key only so that it can be sent again to a server that had begun to answer.
        body = {"parameters": parameters, "idempotency_key": f"chaos {len(self.triggered)}"}
        self.triggered.append(self.call("POST", path, body)["id"])

    def cancel_run(self) -> None:
        self._set_state(LIVE, {"type": "CANCELLING", "name": "Cancelling"})

    def retry_run(self) -> None:
        self._set_state(TO_RETRY, {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"})

    def delete_run(self) -> None:
        if run := self._pick(LIVE + TO_RETRY + ["COMPLETED"]):
            self.call("DELETE", f"/flow_runs/{run['id']}")
            self.deleted.add(run["id"])

    def pause(self) -> None:
        """Switch off a pool, a queue or a deployment."""
        pool = self.rng.choice(("gpu", "api"))
        place = self.rng.choice(("pool", "workers", "requests", "deployment"))
        if place == "deployment":
            row = self.deployment(f"{pool}-worker/{pool}-worker")
            path, switch = f"/deployments/{row['id']}", "paused"
        else:
            path = f"/work_pools/{pool}" + ("" if place == "pool" else f"/queues/{place}")
            switch = "is_paused"
        self.call("PATCH", path, {switch: True})
        self.paused[path] = switch

    def resume(self) -> None:
        """Switch one of those on again."""
        at = self.rng.random()
        if self.paused:
            path = sorted(self.paused)[int(at * len(self.paused))]
            self.call("PATCH", path, {self.paused.pop(path): False})

    def limit(self) -> None:
        """Bound the worker flows of a pool, or lift the bound."""
        pool, most = self.rng.choice(("gpu", "api")), self.rng.choice((0, 1, 1, None, None, None))
        path = f"/work_pools/{pool}/queues/workers"
        self.call("PATCH", path, {"concurrency_limit": most})
        self.limited.add(path)

    def change_schedule(self) -> None:
        """Add a schedule of batches, or change, switch off or remove one."""
        seconds, what, at = self.rng.choice((45, 60, 90)), self.rng.random(), self.rng.random()
        base = f"/deployments/{self.deployment('scheduled-batch/scheduled-batch')['id']}/schedules"
        live = [spell for spell in self.spells if spell.until is None]
        if len(live) < 2:
            self._add_schedule(base, seconds)
            return
        live = [spell for spell in live if datetime.now(UTC) - spell.since > SETTLED]
        if not live:
            return
        spell = live[int(at * len(live))]
        path = f"{base}/{spell.schedule_id}"
        if what < 0.4:
            # Their owner wants none of its times any more, not even those that wait.
            self.call("DELETE", path)
            self.spells = [other for other in self.spells if other.schedule_id != spell.schedule_id]
            return
        if what < 0.6:
            self.call("PATCH", path, {"active": False})
        else:
            self.call("PATCH", path, {"schedule": _interval(spell.anchor, seconds)})
            self.spells.append(Spell(spell.schedule_id, spell.anchor, seconds, datetime.now(UTC)))
        spell.until = datetime.now(UTC)

    def end_disturbances(self) -> None:
        """Resume, lift and switch off everything that is changed."""
        for path, switch in self.paused.items():
            self.call("PATCH", path, {switch: False})
        for path in self.limited:
            self.call("PATCH", path, {"concurrency_limit": None})
        base = f"/deployments/{self.deployment('scheduled-batch/scheduled-batch')['id']}/schedules"
        for spell in self.spells:
            if spell.until is None:
                self.call("PATCH", f"{base}/{spell.schedule_id}", {"active": False})
                spell.until = datetime.now(UTC)

    def _add_schedule(self, base: str, seconds: int) -> None:
        anchor = datetime.now(UTC).replace(microsecond=0)
        body = [{"active": True, "schedule": _interval(anchor, seconds), "parameters": self.batch}]
        (made,) = self.call("POST", base, body)
        self.spells.append(Spell(made["id"], anchor, seconds, datetime.now(UTC)))

    def _set_state(self, of: list[str], state: Row) -> None:
        if run := self._pick(of):
            self.call("POST", f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})

    def _pick(self, states: list[str]) -> Row | None:
        at = self.rng.random()
        body = {
            "flows": {"name": {"any_": FLOWS}},
            "flow_runs": {"state": {"type": {"any_": states}}, "deployment_id": {"is_null_": False}},
            "sort": "ID_DESC",
        }
        runs = self.call("POST", "/flow_runs/filter", body)
        return runs[int(at * len(runs))] if runs else None


def _interval(anchor: datetime, seconds: int) -> Row:
    return {"interval": seconds, "anchor_date": anchor.isoformat(), "timezone": "UTC"}
