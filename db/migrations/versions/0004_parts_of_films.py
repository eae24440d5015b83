"""A part of a film is known by its place on the shot's timeline; its place in the order may change."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint("uq_generations_parent_generation_id_child_order", "generations")
    op.create_index(
        "ix_generations_part",
        "generations",
        ["parent_generation_id", "child_order"],
        postgresql_where=sa.text("parent_generation_id IS NOT NULL"),
    )
    op.create_index(
        "uq_generations_part",
        "generations",
        ["parent_generation_id", "pair_shot_generation_id"],
        unique=True,
        postgresql_where=sa.text("pair_shot_generation_id IS NOT NULL"),
    )
