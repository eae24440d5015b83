"""What was registered last, to tell it from what people set since; and how far the times of schedules are looked at."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "registrations",
        sa.Column("object_id", sa.UUID(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("memory", JSONB(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.create_table(
        "schedule_marks",
        sa.Column("schedule_id", sa.UUID(), primary_key=True),
        sa.Column("schedule", JSONB(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("looked_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("down_from", sa.DateTime(timezone=True)),
        sa.Column("down_until", sa.DateTime(timezone=True)),
    )
