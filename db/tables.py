"""The schema as SQLAlchemy Core tables. Migrations build it; a test compares the two.

Rows of `tasks`, `task_dependencies` and `credit_ledger` change only inside the functions of db/sql.
Amounts are credits (`numeric`, six decimals); one credit is one US dollar.
"""

from __future__ import annotations

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

CREDITS = Numeric(14, 6)
# Written as Postgres gives it back, so that a comparison of schemas sees no difference.
QUEUE_TIME = "(created_at AT TIME ZONE 'UTC'::text) - priority::double precision * '00:01:00'::interval"
# The shot that a task was asked for: a leaf's parameter, or an orchestrator's placement.
SHOT_OF_TASK = "COALESCE(params ->> 'shot_id'::text, placement ->> 'shot_id'::text)"


def _id() -> Column[object]:
    return Column("id", UUID(as_uuid=True), primary_key=True, server_default=text("gen_random_uuid()"))


def _time(name: str, *, now: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=not now, server_default=text("now()") if now else None)


def _ref(name: str, target: str, *, ondelete: str, nullable: bool = False) -> Column[object]:
    return Column(name, UUID(as_uuid=True), ForeignKey(target, ondelete=ondelete), nullable=nullable)


def _json(name: str, default: str = "{}") -> Column[object]:
    return Column(name, JSONB, nullable=False, server_default=text(f"'{default}'::jsonb"))


users = Table(
    "users",
    metadata,
    _id(),
    Column("name", Text, nullable=False),
    Column("email", Text, unique=True),
    _time("created_at", now=True),
)

user_api_tokens = Table(
    "user_api_tokens",
    metadata,
    _id(),
    _ref("user_id", "users.id", ondelete="CASCADE"),
    Column("label", Text, nullable=False, server_default=text("''")),
    # The visible part, by which a token is looked up; the rest exists only as `digest`.
    Column("prefix", Text, nullable=False, unique=True),
    Column("digest", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    _time("created_at", now=True),
    _time("expires_at"),
    _time("last_used_at"),
    _time("revoked_at"),
    Index("ix_user_api_tokens_user_id", "user_id"),
)

# How often a user called lately; changed only by count_call. A JWT may name a user who has no row in `users`.
rate_limits = Table(
    "rate_limits",
    metadata,
    Column("user_id", UUID(as_uuid=True), nullable=False),
    Column("kind", Text, nullable=False),
    _time("window_start", now=True),
    Column("calls", Integer, nullable=False, server_default=text("0")),
    Column("rows", Integer, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("user_id", "kind"),
    postgresql_with={"fillfactor": "50"},
)

projects = Table(
    "projects",
    metadata,
    _id(),
    _ref("user_id", "users.id", ondelete="CASCADE"),
    Column("name", Text, nullable=False),
    Column("aspect_ratio", Text),
    _json("settings"),
    _time("created_at", now=True),
    Index("ix_projects_user_id", "user_id"),
)

# What people brought; it goes with its project. See hold_upload.sql.
uploads = Table(
    "uploads",
    metadata,
    Column("key", Text, primary_key=True),
    _ref("project_id", "projects.id", ondelete="CASCADE"),
    Column("bytes", BigInteger, nullable=False),
    _time("created_at", now=True),
    Index("ix_uploads_project_id", "project_id"),
)

task_templates = Table(
    "task_templates",
    metadata,
    _id(),
    _ref("project_id", "projects.id", ondelete="CASCADE"),
    Column("name", Text, nullable=False),
    Column("task_type", Text, nullable=False),
    # A part of a request's parameters, as it was given.
    _json("params"),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    UniqueConstraint("project_id", "name"),
)

shots = Table(
    "shots",
    metadata,
    _id(),
    _ref("project_id", "projects.id", ondelete="CASCADE"),
    Column("name", Text, nullable=False),
    Column("position", Integer, nullable=False, server_default=text("1")),
    Column("aspect_ratio", Text),
    _json("settings"),
    _time("created_at", now=True),
    Index("ix_shots_project_id", "project_id"),
)

task_types = Table(
    "task_types",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("run_type", Text, nullable=False, server_default=text("'gpu'")),
    Column("category", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("description", Text),
    Column("base_cost_per_second", Numeric(10, 6)),
    Column("cost_factors", JSONB, server_default=text("'{}'::jsonb")),
    Column("is_active", Boolean, server_default=text("true")),
    Column("billing_type", Text, nullable=False, server_default=text("'per_second'")),
    Column("unit_cost", Numeric(10, 6)),
    Column("tool_type", Text),
    Column("content_type", Text),
    Column("max_attempts", Integer, nullable=False, server_default=text("3")),
    # A task that runs longer is ended by its worker, and its lease is not extended.
    Column("deadline_seconds", Integer, nullable=False, server_default=text("3600")),
    # What the code declared when the row was last written from it, by column; a column that says something else is the
    # owner's own and is left alone. Null: nobody here has had code for the type. See tasks_lib/types/table.py.
    Column("declared", JSONB),
    CheckConstraint("run_type IN ('gpu', 'api')", name="run_type"),
    CheckConstraint("category IN ('generation', 'processing', 'orchestration', 'utility')", name="category"),
    CheckConstraint("billing_type IN ('per_second', 'per_unit')", name="billing_type"),
    CheckConstraint("content_type IN ('image', 'video')", name="content_type"),
)

tasks = Table(
    "tasks",
    metadata,
    _id(),
    _ref("project_id", "projects.id", ondelete="CASCADE"),
    # Who pays and whose turn it is; copied from the project, so that the claim need not look there.
    _ref("user_id", "users.id", ondelete="CASCADE"),
    Column("task_type", Text, nullable=False),
    Column("run_type", Text, nullable=False),
    Column("params", JSONB, nullable=False),
    # What its caller set by name, and what of it is known not to be followed; see params/asked.py.
    Column("asked", JSONB),
    Column("status", Text, nullable=False, server_default=text("'Pending'")),
    Column("priority", SmallInteger, nullable=False, server_default=text("0")),
    # An orchestrator: it is hosted while it waits for its children, and takes no execution slot.
    Column("hosted", Boolean, nullable=False, server_default=text("false")),
    # The model that it wants loaded; the claim prefers workers that have it.
    Column("model", Text),
    # How often a task of a warm model went ahead of it; see next_task.sql.
    Column("passed_over", SmallInteger, nullable=False, server_default=text("0")),
    # Where the result goes when the task completes; see complete_task.sql.
    Column("placement", JSONB),
    _ref("parent_task_id", "tasks.id", ondelete="CASCADE", nullable=True),
    Column("child_key", Text),
    Column("batch_id", UUID(as_uuid=True)),
    Column("idempotency_key", Text),
    Column("request_hash", Text),
    # Edges that are not settled yet; changed only by create_tasks and the settling functions.
    Column("deps_pending", Integer, nullable=False, server_default=text("0")),
    # The claim: lease_id only rises and is the fence; attempt may be lowered by retry_task.
    Column("lease_id", BigInteger, nullable=False, server_default=text("0")),
    Column("leased_until", DateTime(timezone=True)),
    Column("worker_id", Text),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("max_attempts", Integer, nullable=False, server_default=text("3")),
    Column("retries", Integer, nullable=False, server_default=text("0")),
    _time("run_after", now=True),
    Column("output_location", Text),
    Column("result", JSONB),
    Column("error_kind", Text),
    Column("error_message", Text),
    # Frozen at creation, see billing/cost.py; what was inserted without one costs nothing.
    Column("price", JSONB),
    Column("cost", CREDITS),
    # Where Prefect shows it: the run that hosts an orchestrator, the task run that executed a leaf.
    Column("flow_run_id", UUID(as_uuid=True)),
    Column("task_run_id", UUID(as_uuid=True)),
    # The run of a deployment that was asked for it: to cancel that run is to cancel the task.
    Column("made_by_run_id", UUID(as_uuid=True)),
    _time("created_at", now=True),
    _time("retried_at"),
    _time("started_at"),
    _time("claimed_at"),
    _time("finished_at"),
    # Its place in its user's queue: one point of priority is worth a minute of waiting, so nothing waits for ever.
    Column("queue_time", DateTime, Computed(QUEUE_TIME, persisted=True), nullable=False),
    UniqueConstraint("project_id", "idempotency_key"),
    UniqueConstraint("parent_task_id", "child_key"),
    CheckConstraint("status IN ('Pending', 'Processing', 'Complete', 'Failed', 'Cancelled')", name="status"),
    CheckConstraint("run_type IN ('gpu', 'api')", name="run_type"),
    CheckConstraint("deps_pending >= 0", name="deps_pending"),
    CheckConstraint("(status = 'Processing') = (leased_until IS NOT NULL)", name="lease"),
    CheckConstraint("(parent_task_id IS NULL) = (child_key IS NULL)", name="child_key"),
    # The claim walks users, then each user's own queue, in this order.
    Index(
        "ix_tasks_claim",
        "run_type",
        "hosted",
        "user_id",
        "queue_time",
        "id",
        postgresql_where=text("status = 'Pending' AND deps_pending = 0"),
    ),
    # Whom the last claim of a pool served.
    Index("ix_tasks_claimed", "run_type", "hosted", "claimed_at", postgresql_where=text("claimed_at IS NOT NULL")),
    Index("ix_tasks_leased", "leased_until", postgresql_where=text("status = 'Processing'")),
    Index("ix_tasks_project", "project_id", text("created_at DESC"), text("id DESC")),
    # A list of what waits or failed reads past no completed one.
    Index(
        "ix_tasks_incomplete",
        "project_id",
        text("created_at DESC"),
        text("id DESC"),
        postgresql_where=text("status <> 'Complete'"),
    ),
    Index("ix_tasks_shot", text(SHOT_OF_TASK), postgresql_where=text(f"{SHOT_OF_TASK} IS NOT NULL")),
    # What somebody may cancel in Prefect; asked for every second.
    Index(
        "ix_tasks_live_runs",
        "made_by_run_id",
        "flow_run_id",
        postgresql_where=text(
            "status IN ('Pending', 'Processing') AND (flow_run_id IS NOT NULL OR made_by_run_id IS NOT NULL)"
        ),
    ),
    Index("ix_tasks_shown_in_run", "flow_run_id", postgresql_where=text("flow_run_id IS NOT NULL")),
    Index("ix_tasks_shown_ended", "finished_at", postgresql_where=text("flow_run_id IS NOT NULL")),
    Index("ix_tasks_batch", "batch_id", postgresql_where=text("batch_id IS NOT NULL")),
    # Rows are updated often while few; room on the page keeps those updates out of the indexes. Claims step over dead
    # rows: by default Postgres would clear them away when they are a fifth of all that were ever finished.
    postgresql_with={"fillfactor": "80", "autovacuum_vacuum_scale_factor": "0.005"},
)

task_dependencies = Table(
    "task_dependencies",
    metadata,
    _ref("task_id", "tasks.id", ondelete="CASCADE"),
    _ref("depends_on", "tasks.id", ondelete="CASCADE"),
    # What happens when the dependency ends other than Complete.
    Column("policy", Text, nullable=False, server_default=text("'fail'")),
    # tasks.deps_pending counts the edges that are not settled.
    Column("settled", Boolean, nullable=False, server_default=text("false")),
    PrimaryKeyConstraint("task_id", "depends_on"),
    CheckConstraint("policy IN ('fail', 'run_anyway')", name="policy"),
    CheckConstraint("task_id <> depends_on", name="not_itself"),
    Index("ix_task_dependencies_depends_on", "depends_on"),
)

task_progress = Table(
    "task_progress",
    metadata,
    Column("task_id", UUID(as_uuid=True), ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("lease_id", BigInteger, nullable=False),
    Column("percent", REAL, nullable=False),
    Column("step", Integer),
    Column("total_steps", Integer),
    Column("message", Text),
    Column("preview_key", Text),
    _time("updated_at", now=True),
    CheckConstraint("percent BETWEEN 0 AND 100", name="percent"),
    postgresql_with={"fillfactor": "70"},
)

task_events = Table(
    "task_events",
    metadata,
    # Given before commits, and not in their order: see tasks_lib/events.py for how to resume by it.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("project_id", UUID(as_uuid=True), nullable=False),
    Column("task_id", UUID(as_uuid=True), nullable=False),
    Column("kind", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    _time("created_at", now=True),
    Index("ix_task_events_project_id_id", "project_id", "id"),
    Index("ix_task_events_task_id_id", "task_id", "id"),
)

generations = Table(
    "generations",
    metadata,
    _id(),
    _ref("project_id", "projects.id", ondelete="CASCADE"),
    # The task that made it, or for a placeholder the task that will fill it.
    _ref("task_id", "tasks.id", ondelete="SET NULL", nullable=True),
    Column("type", Text, nullable=False),
    Column("name", Text),
    # Null while it is a placeholder; the primary variant's location afterwards.
    Column("location", Text),
    _json("params"),
    Column("media", JSONB),
    _ref("based_on", "generations.id", ondelete="SET NULL", nullable=True),
    _ref("parent_generation_id", "generations.id", ondelete="CASCADE", nullable=True),
    Column("child_order", Integer),
    Column(
        "pair_shot_generation_id",
        UUID(as_uuid=True),
        ForeignKey("shot_generations.id", ondelete="SET NULL", use_alter=True),
    ),
    Column("starred", Boolean, nullable=False, server_default=text("false")),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    UniqueConstraint("task_id"),
    CheckConstraint("type IN ('image', 'video')", name="type"),
    Index("ix_generations_project_id_created_at", "project_id", text("created_at DESC")),
    Index(
        "ix_generations_part",
        "parent_generation_id",
        "child_order",
        postgresql_where=text("parent_generation_id IS NOT NULL"),
    ),
    # Which part of a film a generation is; see place_part.sql.
    Index(
        "uq_generations_part",
        "parent_generation_id",
        "pair_shot_generation_id",
        unique=True,
        postgresql_where=text("pair_shot_generation_id IS NOT NULL"),
    ),
    Index("ix_generations_based_on", "based_on", postgresql_where=text("based_on IS NOT NULL")),
)

generation_variants = Table(
    "generation_variants",
    metadata,
    _id(),
    _ref("generation_id", "generations.id", ondelete="CASCADE"),
    _ref("task_id", "tasks.id", ondelete="SET NULL", nullable=True),
    Column("variant_type", Text, nullable=False),
    Column("is_primary", Boolean, nullable=False),
    Column("location", Text, nullable=False),
    Column("name", Text),
    _json("params"),
    Column("media", JSONB),
    _time("created_at", now=True),
    UniqueConstraint("generation_id", "task_id"),
    Index("ix_generation_variants_task_id", "task_id"),
    Index(
        "uq_generation_variants_primary",
        "generation_id",
        unique=True,
        postgresql_where=text("is_primary"),
    ),
)

shot_generations = Table(
    "shot_generations",
    metadata,
    _id(),
    _ref("shot_id", "shots.id", ondelete="CASCADE"),
    _ref("generation_id", "generations.id", ondelete="CASCADE"),
    # Null: in the shot, but not placed on its timeline.
    Column("timeline_frame", Integer),
    _json("metadata"),
    _time("created_at", now=True),
    Index("ix_shot_generations_shot_id", "shot_id"),
    Index("ix_shot_generations_generation_id", "generation_id"),
)

credit_ledger = Table(
    "credit_ledger",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _ref("user_id", "users.id", ondelete="CASCADE"),
    _ref("task_id", "tasks.id", ondelete="SET NULL", nullable=True),
    Column("kind", Text, nullable=False),
    # What the row adds to the balance: a hold is negative, a capture gives back what the hold had too much.
    Column("amount", CREDITS, nullable=False),
    # How often retry_task had brought the task back: each life holds and settles once.
    Column("life", Integer, nullable=False, server_default=text("0")),
    # What budgets count by: rows of tasks that are gone keep their project, and a hold and its end count together.
    _ref("project_id", "projects.id", ondelete="SET NULL", nullable=True),
    _time("held_at", now=True),
    _json("details"),
    _time("created_at", now=True),
    UniqueConstraint("task_id", "kind", "life"),
    CheckConstraint("kind IN ('grant', 'hold', 'capture', 'release', 'refund')", name="kind"),
    CheckConstraint("CASE WHEN kind = 'hold' THEN amount <= 0 ELSE amount >= 0 END", name="sign"),
    Index("ix_credit_ledger_user_id", "user_id", "id"),
    Index("ix_credit_ledger_held_at", "user_id", "held_at", postgresql_where=text("kind <> 'grant'")),
)

# The most that a user may spend in a day, week or month (UTC), in all or in one project; see require_credits.sql.
credit_budgets = Table(
    "credit_budgets",
    metadata,
    _id(),
    _ref("user_id", "users.id", ondelete="CASCADE"),
    _ref("project_id", "projects.id", ondelete="CASCADE", nullable=True),
    Column("period", Text, nullable=False),
    Column("amount", CREDITS, nullable=False),
    _time("created_at", now=True),
    UniqueConstraint("user_id", "project_id", "period", postgresql_nulls_not_distinct=True),
    CheckConstraint("period IN ('day', 'week', 'month')", name="period"),
    CheckConstraint("amount >= 0", name="amount"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run_type", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("slots", Integer, nullable=False),
    # Models that are loaded now; the claim prefers tasks that want them.
    Column("models", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("flow_run_id", UUID(as_uuid=True)),
    # Set by `unitask down`: the worker claims nothing more, finishes what it holds and ends.
    Column("drain", Boolean, nullable=False, server_default=text("false")),
    _time("started_at", now=True),
    _time("last_seen_at", now=True),
    _time("stopped_at"),
    CheckConstraint("run_type IN ('gpu', 'api')", name="run_type"),
    Index("ix_workers_live", "run_type", "last_seen_at", postgresql_where=text("stopped_at IS NULL")),
)

provider_jobs = Table(
    "provider_jobs",
    metadata,
    _id(),
    # What a deleted task had running is still to be cancelled.
    _ref("task_id", "tasks.id", ondelete="SET NULL", nullable=True),
    # One task may need several jobs (`part`); a part is submitted again only on purpose (`run`). Their triple is the
    # idempotency key; the lease is no part of it.
    Column("part", Integer, nullable=False, server_default=text("0")),
    Column("run", Integer, nullable=False),
    Column("key", Text, nullable=False, unique=True),
    # How often retry_task had brought the task back when it was submitted.
    Column("life", Integer, nullable=False),
    Column("provider", Text, nullable=False),
    # Who pays for it there; see provider_account.sql.
    Column("account", Text, nullable=False),
    Column("model", Text, nullable=False),
    # submitting: the answer with the provider's id has not come, and may have been lost with its worker.
    Column("state", Text, nullable=False, server_default=text("'submitting'")),
    Column("job_id", Text),
    Column("error", Text),
    # What the provider says: seconds of its machine, and dollars where it names them.
    Column("seconds", REAL),
    Column("cost", CREDITS),
    _time("cancelling_at"),
    _time("created_at", now=True),
    _time("ended_at"),
    UniqueConstraint("task_id", "part", "run"),
    UniqueConstraint("provider", "job_id"),
    CheckConstraint(
        "state IN ('submitting', 'running', 'succeeded', 'failed', 'cancelled', 'lost', 'unknown')", name="state"
    ),
    CheckConstraint("(state IN ('submitting', 'running')) = (ended_at IS NULL)", name="ended"),
    Index("ix_provider_jobs_open", "account", postgresql_where=text("ended_at IS NULL")),
    Index("ix_provider_jobs_account_created_at", "account", "created_at"),
)

provider_pauses = Table(
    "provider_pauses",
    metadata,
    Column("account", Text, primary_key=True),
    # The provider answered 429: no worker submits before.
    Column("paused_until", DateTime(timezone=True), nullable=False),
)

# The sealed tokens that were used in the last day, each with the run that may come again with it; see use_seal.sql.
seals = Table(
    "seals",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("run_id", UUID(as_uuid=True), nullable=False),
    _time("used_at", now=True),
    Index("ix_seals_used_at", "used_at"),
)

# What one at a time may do; a row is locked by lock_guard, and nobody else has a right to.
guards = Table("guards", metadata, Column("name", Text, primary_key=True))

provider_keys = Table(
    "provider_keys",
    metadata,
    _ref("user_id", "users.id", ondelete="CASCADE"),
    Column("provider", Text, nullable=False),
    # Encrypted to the service's public key, for this row alone; see tasks_lib/auth/sealing.py.
    Column("sealed", Text, nullable=False),
    _time("created_at", now=True),
    PrimaryKeyConstraint("user_id", "provider"),
)

# What `unitask deploy` wrote last to each pool, queue and deployment of a Prefect server: what differs by now was set
# by a person.
registrations = Table(
    "registrations",
    metadata,
    Column("object_id", UUID(as_uuid=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("memory", JSONB, nullable=False),
    _time("updated_at", now=True),
)

# A schedule of Prefect's as it was last seen, up to when each of its times has a run, and when last nobody looked.
schedule_marks = Table(
    "schedule_marks",
    metadata,
    Column("schedule_id", UUID(as_uuid=True), primary_key=True),
    Column("schedule", JSONB, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("looked_until", DateTime(timezone=True), nullable=False),
    _time("down_from"),
    _time("down_until"),
)
