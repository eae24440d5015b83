"""Tasks know the run that made them, and when they were last retried, so that a cancelled run cancels them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("made_by_run_id", sa.UUID(), nullable=True))
    op.add_column("tasks", sa.Column("retried_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_tasks_live_runs",
        "tasks",
        ["made_by_run_id", "flow_run_id"],
        postgresql_where=sa.text(
            "status IN ('Pending', 'Processing') AND (flow_run_id IS NOT NULL OR made_by_run_id IS NOT NULL)"
        ),
    )
    op.create_index(
        "ix_tasks_shown_in_run", "tasks", ["flow_run_id"], postgresql_where=sa.text("flow_run_id IS NOT NULL")
    )
    op.create_index(
        "ix_tasks_shown_ended", "tasks", ["finished_at"], postgresql_where=sa.text("flow_run_id IS NOT NULL")
    )
