"""One registration with a Prefect server: it writes what prefect.yaml says and nobody changed since the last one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from db import tables
from deployments.errors import PlatformError
from deployments.manifest import Deployment, Manifest
from deployments.merge import ABSENT, Change, Fields, Merge, flat, grouped, merge, remember

IMPORT_SECONDS = 300
GROUPS = ("parameters", "job_variables", "tags")
PLAIN = (
    "description",
    "paused",
    "enforce_parameter_schema",
    "concurrency_options",
    "work_pool_name",
    "work_queue_name",
)
PLACE = ("work_pool_name", "work_queue_name")
AT_FIRST = {"paused": False, "enforce_parameter_schema": True}
"""What a field is that nobody set."""

Row = dict[str, Any]
Memory = dict[str, Any]
"""`fields` as `deployments.merge` remembers them; of a deployment also `schedules` by slug, with `id` and `fields`."""


class Code:
    """What is only known when Prefect and the flows are imported, which takes seconds: looked at when it is needed."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self._root = root
        self._environment = environment

    def look(self, entrypoints: Sequence[str]) -> dict[str, Any]:
        """Return `flows` by entrypoint, each with `name` and `schema`, and the `template` of an untouched pool."""
        done = subprocess.run(
            [sys.executable, "-m", "deployments.code", *entrypoints],
            cwd=self._root,
            env={**self._environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=IMPORT_SECONDS,
            check=False,
        )
        if done.returncode:
            raise PlatformError(f"the flows of {self._root} cannot be imported:\n{done.stderr.strip()[-4000:]}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def filled(self, value: Any) -> Any:
        """Return a value of prefect.yaml with `{{ $NAME }}` filled in from the environment."""
        text = json.dumps(value)
        filled = re.sub(
            r"\{\{ *\$(\w+) *\}\}", lambda found: json.dumps(self._environment.get(found[1], ""))[1:-1], text
        )
        return json.loads(filled)


class Registration:
    """What is written goes through `_send`, which does nothing in a dry run. One that is refused stops no others."""

    def __init__(self, client: httpx.Client, engine: sa.Engine, code: Code, manifest: Manifest, dry_run: bool) -> None:
        self.changes: list[Change] = []
        self.refused: list[str] = []
        self._client = client
        self._engine = engine
        self._sources = code
        self._manifest = manifest
        self._dry_run = dry_run
        self._memories = self._remembered()

    def pool(self, name: str, ours: Fields) -> bool:
        """Make a work pool, or have it follow."""
        found = self._client.get(f"/work_pools/{name}")
        if found.status_code == httpx.codes.NOT_FOUND:
            body = {"name": name, "type": "process", **ours}
            return self._add(f"pool {name}", "/work_pools/", body, ours) or self.pool(name, ours)
        row = found.raise_for_status().json()
        theirs = {key: row[key] for key in ours}
        # A worker that starts makes the pool that it misses: that template is nobody's wish.
        if row["id"] not in self._memories and theirs["base_job_template"] == self._code["template"]:
            theirs["base_job_template"] = ABSENT
        return self._follow(f"pool {name}", f"/work_pools/{name}", row, ours, theirs)

    def queue(self, pool: str, name: str, ours: Fields) -> bool:
        """Make a queue of a work pool, or have it follow."""
        path = f"/work_pools/{pool}/queues"
        found = self._client.get(f"{path}/{name}")
        if found.status_code == httpx.codes.NOT_FOUND:
            body = {"name": name, **ours}
            return self._add(f"queue {pool}/{name}", path, body, ours) or self.queue(pool, name, ours)
        row = found.raise_for_status().json()
        return self._follow(f"queue {pool}/{name}", f"{path}/{name}", row, ours, {key: row[key] for key in ours})

    def deployments(self) -> None:
        """Make every deployment of the file, or have it follow, and remove what we made and the file no longer has."""
        rows = self._rows({"name": {"any_": [entry.name for entry in self._manifest.deployments]}})
        current = [self._deployment(entry, rows) for entry in self._manifest.deployments]
        gone = [id_ for id_, memory in self._memories.items() if "schedules" in memory and id_ not in current]
        for row in self._rows({"id": {"any_": gone}}) if gone else ():
            self._remove(row, self._memories[row["id"]])

    def _deployment(self, entry: Deployment, rows: Sequence[Row]) -> str | None:
        version, code = self._manifest.digest, dict[str, Any]()
        row = next((row for row in rows if _made_from(row, entry, version)), None)
        try:
            if row is None:
                flow = self._code["flows"][entry.entrypoint]
                flow_id = self._flow(flow["name"])
                row = next((r for r in rows if (r["name"], r["flow_id"]) == (entry.name, flow_id)), None)
                pull_steps = self._sources.filled(self._manifest.pull_steps)
                code = {"version": version, "entrypoint": entry.entrypoint, "pull_steps": pull_steps}
                code["parameter_openapi_schema"] = flow["schema"]
                if row is None:
                    return self._add_deployment(entry, {"name": entry.name, "flow_id": flow_id, **code})
            self._update_deployment(entry, row, code)
        except httpx.HTTPStatusError as error:
            self.refused.append(f"`{entry.name}`: {error.response.text}")
        return str(row["id"]) if row else None

    def _add_deployment(self, entry: Deployment, body: Row) -> str | None:
        self.changes.append(Change("added", entry.name))
        self.changes += [Change("added", f"{entry.name}/{slug}") for slug in entry.schedules]
        ours = self._sources.filled(entry.fields)
        schedules = [_schedule_body(slug, fields) for slug, fields in self._sources.filled(entry.schedules).items()]
        if (row := self._send("POST", "/deployments/", body | _body(ours, ours) | {"schedules": schedules})) is None:
            return None
        made = {schedule["slug"]: schedule for schedule in row["schedules"]}
        memories = {
            slug: {"id": made[slug]["id"], "fields": remember(Merge(), fields, _schedule_fields(made[slug]), {})}
            for slug, fields in entry.schedules.items()
        }
        self._remember(row["id"], entry.name, remember(Merge(), ours, _fields(row), {}), memories)
        return str(row["id"])

    def _update_deployment(self, entry: Deployment, row: Row, code: Row) -> None:
        path = f"/deployments/{row['id']}"
        # An older version wrote the description each time, and remembered nothing.
        description = {"description": {"there": row["description"]}}
        memory = self._memories.get(row["id"], {"fields": description, "schedules": {}})
        ours, theirs, last = self._sources.filled(entry.fields), _fields(row), memory["fields"]
        if theirs["work_pool_name"] is ABSENT:
            # Somebody deleted its pool or its queue, and did not choose that its runs never start.
            last = {key: value for key, value in last.items() if key not in PLACE}
        merged = merge(entry.name, ours, theirs, last)
        self.changes += merged.changes
        if code:
            self.changes.append(Change("changed", entry.name, "version", row["version"], code["version"]))
        if body := code | _body(merged.updates, theirs | merged.updates):
            self._send("PATCH", path, body)
            theirs = _fields(self._client.get(path).raise_for_status().json())
        schedules = self._schedules(entry, row, memory["schedules"])
        self._remember(row["id"], entry.name, remember(merged, ours, theirs, last), schedules)

    def _schedules(self, entry: Deployment, row: Row, memories: Memory) -> Memory:
        """Have the schedules of a deployment follow; those that are not ours are never looked at."""
        path = f"/deployments/{row['id']}/schedules"
        by_id = {schedule["id"]: schedule for schedule in row["schedules"]}
        by_slug = {schedule["slug"]: schedule for schedule in row["schedules"]}
        after: Memory = {}
        for slug, ours in self._sources.filled(entry.schedules).items():
            name, memory = f"{entry.name}/{slug}", memories.get(slug)
            schedule = by_id.get((memory or {}).get("id")) or by_slug.get(slug)
            if schedule is None:
                after[slug] = memory or self._add_schedule(name, path, slug, ours)
                if memory:
                    self.changes.append(Change("kept", name, "schedule", "deleted", ours["schedule"]))
                continue
            last, theirs = (memory or {}).get("fields", {}), _schedule_fields(schedule)
            merged = merge(name, ours, theirs, last)
            self.changes += merged.changes
            if merged.updates:
                # All of it: to the server, parameters that are left out are none.
                self._send("PATCH", f"{path}/{schedule['id']}", _schedule_body(None, theirs | merged.updates))
                (schedule,) = [s for s in self._client.get(path).json() if s["id"] == schedule["id"]]
            there = _schedule_fields(schedule)
            after[slug] = {"id": schedule["id"], "fields": remember(merged, ours, there, last)}
        for slug, memory in memories.items():
            if slug not in entry.schedules and (schedule := by_id.get(memory["id"])):
                name, touched = f"{entry.name}/{slug}", _touched(memory["fields"], _schedule_fields(schedule))
                if touched:
                    after[slug] = memory
                    self.changes.append(Change("kept", name, ", ".join(touched), "set by a person", ABSENT))
                else:
                    self.changes.append(Change("removed", name))
                    self._send("DELETE", f"{path}/{schedule['id']}")
        return after

    def _add_schedule(self, name: str, path: str, slug: str, ours: Fields) -> Memory:
        self.changes.append(Change("added", name))
        if (made := self._send("POST", path, [_schedule_body(slug, ours)])) is None:
            return {}
        return {"id": made[0]["id"], "fields": remember(Merge(), ours, _schedule_fields(made[0]), {})}

    def _remove(self, row: Row, memory: Memory) -> None:
        touched = _touched(memory["fields"], _fields(row))
        ours = {schedule["id"]: schedule["fields"] for schedule in memory["schedules"].values()}
        for schedule in row["schedules"]:
            if schedule["id"] not in ours or _touched(ours[schedule["id"]], _schedule_fields(schedule)):
                touched.append(f"schedule {schedule['slug'] or schedule['id']}")
        if touched:
            self.changes.append(Change("kept", row["name"], ", ".join(touched), "set by a person", ABSENT))
            return
        self.changes.append(Change("removed", row["name"]))
        self._send("DELETE", f"/deployments/{row['id']}")
        self._forget(row["id"])

    def _add(self, name: str, path: str, body: Row, ours: Fields) -> bool:
        if not self._dry_run:
            made = self._client.post(path, json=body)
            if made.status_code == httpx.codes.CONFLICT:
                return False  # a worker that starts was quicker
            row = made.raise_for_status().json()
            self._remember(row["id"], name, remember(Merge(), ours, row, {}))
        self.changes.append(Change("added", name))
        return True

    def _follow(self, name: str, path: str, row: Row, ours: Fields, theirs: Fields) -> bool:
        last = self._memories.get(row["id"], {}).get("fields", {})
        merged = merge(name, ours, theirs, last)
        self.changes += merged.changes
        if merged.updates:
            self._send("PATCH", path, merged.updates)
            row = self._client.get(path).raise_for_status().json()
        self._remember(row["id"], name, remember(merged, ours, row, last))
        return True

    @cached_property
    def _code(self) -> dict[str, Any]:
        return self._sources.look([entry.entrypoint for entry in self._manifest.deployments])

    def _flow(self, name: str) -> str | None:
        if self._dry_run:
            found = self._client.get(f"/flows/name/{name}")
            return str(found.json()["id"]) if found.is_success else None
        return str(self._client.post("/flows/", json={"name": name}).raise_for_status().json()["id"])

    def _rows(self, where: dict[str, Any]) -> list[Row]:
        rows: list[Row] = []
        while True:
            body = {"deployments": where, "offset": len(rows)}
            page = self._client.post("/deployments/filter", json=body).raise_for_status().json()
            if not page:
                return rows
            rows += page

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        if self._dry_run:
            return None
        answer = self._client.request(method, path, json=body).raise_for_status()
        return answer.json() if answer.content else None

    def _remembered(self) -> dict[str, Memory]:
        if not sa.inspect(self._engine).has_table(tables.registrations.name):
            return {}
        r = tables.registrations
        with self._engine.connect() as connection:
            return {str(row.object_id): row.memory for row in connection.execute(sa.select(r.c.object_id, r.c.memory))}

    def _remember(self, object_id: str, name: str, fields: dict[str, Fields], schedules: Memory | None = None) -> None:
        """Keep what was written, at once: what is written and not remembered would count as a person's."""
        memory: Memory = {"fields": fields} | ({} if schedules is None else {"schedules": schedules})
        if self._dry_run or self._memories.get(object_id) == memory:
            return
        row = insert(tables.registrations).values(object_id=UUID(object_id), name=name, memory=memory)
        changed = {"name": name, "memory": memory, "updated_at": sa.func.now()}
        with self._engine.begin() as connection:
            connection.execute(row.on_conflict_do_update(index_elements=["object_id"], set_=changed))

    def _forget(self, object_id: str) -> None:
        r = tables.registrations
        if not self._dry_run:
            with self._engine.begin() as connection:
                connection.execute(sa.delete(r).where(r.c.object_id == UUID(object_id)))


def _made_from(row: Row, entry: Deployment, version: str) -> bool:
    return (row["name"], row["version"], row["entrypoint"]) == (entry.name, version, entry.entrypoint)


def _fields(row: Row) -> dict[str, Any]:
    """What people can set of a deployment."""
    fields = {key: row[key] for key in PLAIN}
    fields["concurrency_limit"] = (row["global_concurrency_limit"] or {}).get("limit")
    for group in GROUPS:
        fields |= flat(group, row[group])
    return fields


def _schedule_fields(row: Row) -> dict[str, Any]:
    return {"active": row["active"], "schedule": row["schedule"]} | flat("parameters", row["parameters"])


def _touched(last: Mapping[str, Fields], theirs: Fields) -> list[str]:
    """The fields that are not as they were written."""
    there = {key: fields.get("there", ABSENT) for key, fields in last.items()}
    return [
        key
        for key in dict.fromkeys([*there, *theirs])
        if theirs.get(key, ABSENT) != there.get(key, AT_FIRST.get(key, ABSENT))
    ]


def _body(updates: Fields, after: Fields) -> Row:
    """What to send for some fields, with all members of a group that one of them is in."""
    body = {key: value for key, value in updates.items() if key.partition(".")[0] not in GROUPS}
    if body.keys() & set(PLACE):
        body |= {key: after[key] for key in PLACE}
    for group in GROUPS:
        if any(key.startswith(f"{group}.") for key in updates):
            members = grouped(group, after)
            body[group] = list(members) if group == "tags" else members
    return body


def _schedule_body(slug: str | None, fields: Fields) -> Row:
    body = {"active": fields["active"], "schedule": fields["schedule"], "parameters": grouped("parameters", fields)}
    return body | ({"slug": slug} if slug else {})
