"""Lists by status and by shot read few rows; a task is deleted without a look at every variant."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SHOT = "COALESCE(params ->> 'shot_id'::text, placement ->> 'shot_id'::text)"


def upgrade() -> None:
    op.create_index(
        "ix_tasks_incomplete",
        "tasks",
        ["project_id", sa.text("created_at DESC"), sa.text("id DESC")],
        postgresql_where=sa.text("status <> 'Complete'"),
    )
    op.create_index("ix_tasks_shot", "tasks", [sa.text(SHOT)], postgresql_where=sa.text(f"{SHOT} IS NOT NULL"))
    op.create_index("ix_generation_variants_task_id", "generation_variants", ["task_id"])
