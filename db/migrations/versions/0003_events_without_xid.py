"""Events need not carry the transaction that wrote them: a reader waits for all that are open."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("task_events", "xid")
