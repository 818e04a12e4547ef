"""A row for each result object that goes to an archive."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table; an older worker writes no row, and its results are not sent."""
    op.create_table(
        "dispatch",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("study_id", ROW_ID, nullable=False),
        sa.Column("screening_id", ROW_ID, nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer", sa.String(length=200), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_dispatch"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_dispatch_study_id_study"),
        sa.ForeignKeyConstraint(["screening_id"], ["screening.id"], name="fk_dispatch_screening_id_screening"),
        sa.UniqueConstraint("sop_instance_uid", "destination", name="uq_dispatch_sop_instance_uid_destination"),
    )
    op.create_index("ix_dispatch_study_id", "dispatch", ["study_id"])
    op.create_index("ix_dispatch_state", "dispatch", ["state", "next_try_at"])
