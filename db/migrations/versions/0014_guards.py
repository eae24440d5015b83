"""Rows that are locked in place of advisory locks, which every login can take."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "guards", sa.Column("name", sa.Text(), nullable=False), sa.PrimaryKeyConstraint("name", name="pk_guards")
    )
    # Those that are never waited for are there from the start.
    op.execute("INSERT INTO guards (name) VALUES ('rescue'), ('fleet gpu'), ('fleet api')")
