"""An event knows the transactions that a reader has to wait for before it may resume behind it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("task_events", "xid")
    # Whoever wrote the events that are there has ended.
    op.add_column("task_events", sa.Column("horizon", sa.BigInteger(), server_default="0", nullable=False))
    op.alter_column("task_events", "horizon", server_default=None)
