"""A row for each failure of an inference device, so that metrics and the check-up report a dead GPU."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table; an older worker leaves no row."""
    op.create_table(
        "device_failure",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_device_failure"),
    )
    op.create_index("ix_device_failure_failed_at", "device_failure", ["failed_at"])
