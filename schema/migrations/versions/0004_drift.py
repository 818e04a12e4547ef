"""For drift: three numbers of each screened image, and a table of judgements."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add what is missing; an older worker leaves the new columns empty, and its images are compared by the others."""
    for name in ("display_mean", "display_deviation", "dark_border"):
        op.add_column("finding", sa.Column(name, sa.Double(), nullable=True))
    op.create_table(
        "drift",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("evaluation", sa.Integer(), nullable=False),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model_digest", sa.String(length=64), nullable=False),
        sa.Column("manufacturer", sa.String(length=32), nullable=False),
        sa.Column("station", sa.String(length=32), nullable=False),
        sa.Column("view", sa.String(length=32), nullable=False),
        sa.Column("measure", sa.String(length=32), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("event", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(["model_digest"], ["model_version.digest"], name="fk_drift_model_digest_model_version"),
        sa.PrimaryKeyConstraint("id", name="pk_drift"),
        sa.UniqueConstraint(
            "evaluation", "model_digest", "manufacturer", "station", "view", "measure", name="uq_drift_evaluation"
        ),
    )
    op.create_index("ix_drift_judged", "drift", ["judged_at"])
