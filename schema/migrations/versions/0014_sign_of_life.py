"""When each process of the installation was last seen alive: one row for each process and machine."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; an older process writes no row, and counts as never seen."""
    op.create_table(
        "sign_of_life",
        sa.Column("process", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=64), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("process", "host", name="pk_sign_of_life"),
    )
