"""A row for each run of `worker batch`, so that a failed or unfinished run is visible outside its log too."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table; an older program writes no row, and its runs are not visible."""
    op.create_table(
        "batch_run",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("studies", sa.Integer(), nullable=True),
        sa.Column("without_result", sa.Integer(), nullable=True),
        sa.Column("remaining", sa.Integer(), nullable=True),
        sa.Column("fault", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_batch_run"),
    )


def downgrade() -> None:
    """Remove the table."""
    op.drop_table("batch_run")
