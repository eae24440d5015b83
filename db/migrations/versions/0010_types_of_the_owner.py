"""Every column of a task type can be its owner's own, not its price alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# The types that had code; any other row was written by hand.
NAMES = [
    *("animate_character", "annotated_image_edit", "image_inpaint", "image_upscale", "individual_travel_segment"),
    *("join_clips_orchestrator", "join_clips_segment", "join_final_stitch", "magic_edit", "qwen_image"),
    *("qwen_image_2512", "qwen_image_edit", "qwen_image_style", "replicate_upscale", "single_image"),
    *("travel_orchestrator", "travel_segment", "travel_stitch", "wan_2_2_i2v", "wan_2_2_t2i", "z_image_turbo"),
    "z_image_turbo_i2i",
]


def upgrade() -> None:
    op.add_column("task_types", sa.Column("declared", postgresql.JSONB(), nullable=True))
    # Until now no worker started while a row said anything else than the code, its price apart.
    statement = sa.text(
        """
        UPDATE task_types SET declared = jsonb_build_object(
            'run_type', run_type, 'category', category, 'display_name', display_name, 'description', description,
            'is_active', is_active, 'tool_type', tool_type, 'content_type', content_type, 'max_attempts', max_attempts,
            'deadline_seconds', deadline_seconds)
            || CASE WHEN own_price THEN '{}' ELSE jsonb_build_object(
                'billing_type', billing_type, 'base_cost_per_second', trim_scale(base_cost_per_second)::text,
                'unit_cost', trim_scale(unit_cost)::text, 'cost_factors', cost_factors) END
        WHERE name = ANY (:names)
        """
    )
    op.get_bind().execute(statement, {"names": NAMES})
    op.execute("DROP TRIGGER IF EXISTS own_price ON task_types")
    op.drop_column("task_types", "own_price")
