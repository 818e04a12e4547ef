"""Several watchers of one inbox divide its folders: who they are, and who takes which share."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables; a watcher of an older release writes no row, and takes in every file as before."""
    op.create_table(
        "inbox_watcher",
        sa.Column("inbox", sa.Text(), nullable=False),
        sa.Column("holder", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=64), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("pid_space", sa.String(length=16), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("inbox", "holder", name="pk_inbox_watcher"),
    )
    op.create_table(
        "inbox_share",
        sa.Column("inbox", sa.Text(), nullable=False),
        sa.Column("share", sa.Integer(), nullable=False),
        sa.Column("holder", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("inbox", "share", name="pk_inbox_share"),
    )
