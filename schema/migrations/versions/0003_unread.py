"""The worklist's order as an index over only the unread studies; without it PostgreSQL sorted them at each read."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UNREAD = sa.text("read_at IS NULL")


def upgrade() -> None:
    """Another index in place of one; no row is touched."""
    op.create_index(
        "ix_study_unread", "study", ["band", "sort_key", "id"], sqlite_where=UNREAD, postgresql_where=UNREAD
    )
    op.drop_index("ix_study_place", "study")
