"""Tables of the page (accounts, sessions, holds, tokens); a review's circumstances; images that are not assessable."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)

#: Columns that older workers leave empty.
COLUMNS: tuple[tuple[str, str, sa.types.TypeEngine[Any]], ...] = (
    ("study", "not_assessable_at", MOMENT),
    ("review", "saw_probability", sa.Boolean()),
    ("review", "saw_heatmap", sa.Boolean()),
    ("review", "saw_place", sa.Boolean()),
    ("review", "open_s", sa.Double()),
)

AGREEMENT = """CREATE VIEW agreement AS
SELECT
    screening.model_digest,
    COUNT(*) AS reviewed,
    SUM(CASE WHEN screening.verdict = 'flagged' AND review.outcome = 'pneumonia' THEN 1 ELSE 0 END) AS true_positive,
    SUM(CASE WHEN screening.verdict = 'flagged' AND review.outcome = 'no_pneumonia' THEN 1 ELSE 0 END)
        AS false_positive,
    SUM(CASE WHEN screening.verdict = 'not_flagged' AND review.outcome = 'no_pneumonia' THEN 1 ELSE 0 END)
        AS true_negative,
    SUM(CASE WHEN screening.verdict = 'not_flagged' AND review.outcome = 'pneumonia' THEN 1 ELSE 0 END)
        AS false_negative,
    AVG(
        CASE
            WHEN review.outcome NOT IN ('pneumonia', 'no_pneumonia') THEN NULL
            WHEN screening.verdict NOT IN ('flagged', 'not_flagged') THEN NULL
            WHEN (screening.verdict = 'flagged') = (review.outcome = 'pneumonia') THEN 1.0
            ELSE 0.0
        END
    ) AS agreement
FROM review
JOIN screening ON screening.id = review.screening_id
WHERE review.id = (SELECT MAX(newer.id) FROM review AS newer WHERE newer.study_id = review.study_id)
    AND NOT EXISTS (SELECT 1 FROM withdrawal WHERE withdrawal.review_id = review.id)
GROUP BY screening.model_digest"""

UNSEEN = AGREEMENT.replace("VIEW agreement", "VIEW agreement_unseen").replace(
    "GROUP BY", "    AND review.saw_probability IS FALSE\nGROUP BY"
)


def upgrade() -> None:
    """Add tables, columns and views; an older worker goes on working."""
    for table, column, kind in COLUMNS:
        op.add_column(table, sa.Column(column, kind, nullable=True))
    op.create_index("ix_study_patient_id", "study", ["patient_id"])
    _accounts()
    _holds()
    op.execute("DROP VIEW agreement")
    op.execute(AGREEMENT)
    op.execute(UNSEEN)


def _accounts() -> None:
    op.create_table(
        "account",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("disabled_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_account"),
        sa.UniqueConstraint("name", name="uq_account_name"),
    )
    op.create_table(
        "web_session",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("account_id", ROW_ID, nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("began_at", MOMENT, nullable=False),
        sa.Column("used_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_web_session"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_web_session_account_id_account"),
        sa.UniqueConstraint("token_hash", name="uq_web_session_token_hash"),
    )
    op.create_index("ix_web_session_account_id", "web_session", ["account_id"])
    op.create_table(
        "login_failure",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("name_hash", sa.String(64), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("failed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_login_failure"),
    )
    op.create_index("ix_login_failure_failed_at", "login_failure", ["failed_at"])
    op.create_index("ix_login_failure_name", "login_failure", ["name_hash", "failed_at"])
    op.create_index("ix_login_failure_address", "login_failure", ["address", "failed_at"])
    op.create_table(
        "access_token",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("scope", sa.String(64), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_access_token"),
        sa.UniqueConstraint("name", name="uq_access_token_name"),
        sa.UniqueConstraint("token_hash", name="uq_access_token_token_hash"),
    )


def _holds() -> None:
    op.create_table(
        "hold",
        sa.Column("study_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("session_id", ROW_ID, nullable=False),
        sa.Column("opening", sa.String(32), nullable=False),
        sa.Column("taken_at", MOMENT, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("study_id", name="pk_hold"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_hold_study_id_study"),
        sa.ForeignKeyConstraint(["session_id"], ["web_session.id"], name="fk_hold_session_id_web_session"),
    )
    op.create_index("ix_hold_session_id", "hold", ["session_id"])
