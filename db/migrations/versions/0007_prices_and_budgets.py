"""Prices are frozen in tasks, budgets limit what a period may cost, and an owner's own price stays."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("price", postgresql.JSONB(), nullable=True))
    op.add_column("task_types", sa.Column("own_price", sa.Boolean(), server_default=sa.text("false"), nullable=False))

    ledger = "credit_ledger"
    op.add_column(ledger, sa.Column("project_id", sa.UUID(), nullable=True))
    op.create_foreign_key(
        "fk_credit_ledger_project_id", ledger, "projects", ["project_id"], ["id"], ondelete="SET NULL"
    )
    op.add_column(
        ledger, sa.Column("held_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)
    )
    op.execute(
        """
        UPDATE credit_ledger l SET held_at = coalesce(h.created_at, l.created_at), project_id = t.project_id
        FROM credit_ledger o LEFT JOIN tasks t ON t.id = o.task_id
        LEFT JOIN credit_ledger h ON h.task_id = o.task_id AND h.life = o.life AND h.kind = 'hold'
        WHERE o.id = l.id
        """
    )
    op.create_index(
        "ix_credit_ledger_held_at", ledger, ["user_id", "held_at"], postgresql_where=sa.text("kind <> 'grant'")
    )

    op.create_table(
        "credit_budgets",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("project_id", sa.UUID(), nullable=True),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("amount", sa.Numeric(precision=14, scale=6), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("period IN ('day', 'week', 'month')", name=op.f("ck_credit_budgets_period")),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_credit_budgets_amount")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_credit_budgets_user_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_credit_budgets_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_budgets")),
        sa.UniqueConstraint(
            "user_id",
            "project_id",
            "period",
            name=op.f("uq_credit_budgets_user_id_project_id_period"),
            postgresql_nulls_not_distinct=True,
        ),
    )
