"""Alembic's entry: it runs on the connection that `db.migrate` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from db.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
