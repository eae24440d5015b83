"""Users bring keys of their own: each job at a provider, and each pause, belongs to an account there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "provider_keys",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_provider_keys_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "provider", name=op.f("pk_provider_keys")),
    )
    # They last for minutes.
    op.drop_table("provider_pauses")
    op.create_table(
        "provider_pauses",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("paused_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_provider_pauses")),
    )
    op.add_column("provider_jobs", sa.Column("account", sa.Text()))
    # Until now there was only the service's own.
    op.execute("UPDATE provider_jobs SET account = provider")
    op.alter_column("provider_jobs", "account", nullable=False)
    op.drop_index("ix_provider_jobs_open", "provider_jobs")
    op.create_index("ix_provider_jobs_open", "provider_jobs", ["account"], postgresql_where=sa.text("ended_at IS NULL"))
    op.drop_index("ix_provider_jobs_provider_created_at", "provider_jobs")
    op.create_index("ix_provider_jobs_account_created_at", "provider_jobs", ["account", "created_at"])
