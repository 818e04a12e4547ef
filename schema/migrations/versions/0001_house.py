"""The first schema: all tables and views."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table, index and view."""
    op.create_table(
        "model_version",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("card", sa.JSON(), nullable=False),
        sa.Column("first_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_model_version")),
    )
    op.create_table(
        "study",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=True),
        sa.Column("issuer_of_patient_id", sa.Text(), nullable=True),
        sa.Column("accession_number", sa.Text(), nullable=True),
        sa.Column("study_date", sa.String(length=8), nullable=True),
        sa.Column("study_time", sa.String(length=16), nullable=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("priority", sa.String(32), nullable=False),
        sa.Column("conflict", sa.String(32), nullable=True),
        sa.Column("failure_code", sa.String(length=64), nullable=True),
        sa.Column("failure_detail", sa.Text(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked_because", sa.String(32), nullable=False),
        sa.Column("settles_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("offered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claim", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("screened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("current_screening_id", ROW_ID, nullable=True),
        sa.Column("band", sa.SmallInteger(), nullable=False),
        sa.Column("sort_key", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("overdue_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("result_due_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
        sa.UniqueConstraint("study_uid", name=op.f("uq_study_study_uid")),
    )
    op.create_index(op.f("ix_study_accession_number"), "study", ["accession_number"], unique=False)
    op.create_index("ix_study_overdue", "study", ["read_at", "overdue_at"], unique=False)
    op.create_index("ix_study_place", "study", ["read_at", "band", "sort_key"], unique=False)
    op.create_index("ix_study_state", "study", ["state", "offered_at"], unique=False)
    op.create_table(
        "prioritisation",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("study_id", ROW_ID, nullable=False),
        sa.Column("priority", sa.String(32), nullable=False),
        sa.Column("given_by", sa.Text(), nullable=False),
        sa.Column("given_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_prioritisation_study_id_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prioritisation")),
    )
    op.create_index(op.f("ix_prioritisation_study_id"), "prioritisation", ["study_id"], unique=False)
    op.create_table(
        "screening",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("study_id", ROW_ID, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("model_digest", sa.String(length=64), nullable=False),
        sa.Column("verdict", sa.String(32), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("deciding_finding", sa.Integer(), nullable=True),
        sa.Column("screened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("screened_on", sa.String(length=10), nullable=False),
        sa.Column("waited_s", sa.Double(), nullable=False),
        sa.Column("worked_s", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_digest"], ["model_version.digest"], name=op.f("fk_screening_model_digest_model_version")
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_screening_study_id_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_screening")),
        sa.UniqueConstraint(
            "study_id", "revision", "model_digest", name=op.f("uq_screening_study_id_revision_model_digest")
        ),
    )
    op.create_index(op.f("ix_screening_screened_on"), "screening", ["screened_on"], unique=False)
    op.create_table(
        "series",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("study_id", ROW_ID, nullable=False),
        sa.Column("series_uid", sa.String(length=64), nullable=False),
        sa.Column("modality", sa.Text(), nullable=True),
        sa.Column("manufacturer", sa.Text(), nullable=True),
        sa.Column("station_name", sa.Text(), nullable=True),
        sa.Column("device_serial_number", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_series_study_id_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("study_id", "series_uid", name=op.f("uq_series_study_id_series_uid")),
    )
    op.create_index(op.f("ix_series_study_id"), "series", ["study_id"], unique=False)
    op.create_table(
        "instance",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("series_id", ROW_ID, nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("left_at", sa.Text(), nullable=True),
        sa.Column("container", sa.String(length=16), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=True),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=True),
        sa.Column("modality", sa.Text(), nullable=True),
        sa.Column("body_part", sa.Text(), nullable=True),
        sa.Column("view", sa.Text(), nullable=True),
        sa.Column("photometric_interpretation", sa.Text(), nullable=True),
        sa.Column("age_years", sa.Double(), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("columns", sa.Integer(), nullable=False),
        sa.Column("unreadable", sa.String(length=64), nullable=True),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_instance_series_id_series")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
        sa.UniqueConstraint(
            "sop_instance_uid", "digest", "series_id", name=op.f("uq_instance_sop_instance_uid_digest_series_id")
        ),
    )
    op.create_index(op.f("ix_instance_digest"), "instance", ["digest"], unique=False)
    op.create_index(op.f("ix_instance_series_id"), "instance", ["series_id"], unique=False)
    op.create_index(op.f("ix_instance_sop_instance_uid"), "instance", ["sop_instance_uid"], unique=False)
    op.create_table(
        "review",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("study_id", ROW_ID, nullable=False),
        sa.Column("screening_id", ROW_ID, nullable=True),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("reader", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["screening_id"], ["screening.id"], name=op.f("fk_review_screening_id_screening")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_review_study_id_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review")),
    )
    op.create_index(op.f("ix_review_study_id"), "review", ["study_id"], unique=False)
    op.create_table(
        "arrival",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("in_store", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.String(32), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("study_id", ROW_ID, nullable=True),
        sa.Column("instance_id", ROW_ID, nullable=True),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_arrival_instance_id_instance")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_arrival_study_id_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_arrival")),
    )
    op.create_index(op.f("ix_arrival_path"), "arrival", ["path"], unique=False)
    op.create_index(op.f("ix_arrival_state"), "arrival", ["state"], unique=False)
    op.create_index(op.f("ix_arrival_study_id"), "arrival", ["study_id"], unique=False)
    op.create_table(
        "finding",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("screening_id", ROW_ID, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("instance_id", ROW_ID, nullable=False),
        sa.Column("exclusion", sa.String(32), nullable=True),
        sa.Column("unreadable", sa.String(length=64), nullable=True),
        sa.Column("probability", sa.Double(), nullable=True),
        sa.Column("familiarity", sa.Double(), nullable=True),
        sa.Column("heatmap", sa.LargeBinary(), nullable=True),
        sa.Column("heatmap_rows", sa.Integer(), nullable=True),
        sa.Column("heatmap_columns", sa.Integer(), nullable=True),
        sa.Column("overlay_digest", sa.String(length=64), nullable=True),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_finding_instance_id_instance")),
        sa.ForeignKeyConstraint(["screening_id"], ["screening.id"], name=op.f("fk_finding_screening_id_screening")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_finding")),
    )
    op.create_index(op.f("ix_finding_instance_id"), "finding", ["instance_id"], unique=False)
    op.create_index(op.f("ix_finding_screening_id"), "finding", ["screening_id"], unique=False)
    op.execute("""CREATE VIEW agreement AS
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
            WHEN review.outcome = 'uncertain' OR screening.verdict NOT IN ('flagged', 'not_flagged') THEN NULL
            WHEN (screening.verdict = 'flagged') = (review.outcome = 'pneumonia') THEN 1.0
            ELSE 0.0
        END
    ) AS agreement
FROM review
JOIN screening ON screening.id = review.screening_id
WHERE review.id = (SELECT MAX(newer.id) FROM review AS newer WHERE newer.study_id = review.study_id)
GROUP BY screening.model_digest""")
    op.execute("""CREATE VIEW reconciliation AS
SELECT 'file' AS kind, state, COUNT(*) AS n FROM arrival GROUP BY state
UNION ALL
SELECT 'study' AS kind, state, COUNT(*) AS n FROM study GROUP BY state""")
    op.execute("""CREATE VIEW throughput AS
SELECT
    screened_on AS day,
    model_digest,
    COUNT(*) AS screened,
    SUM(CASE WHEN verdict = 'flagged' THEN 1 ELSE 0 END) AS flagged,
    SUM(CASE WHEN verdict = 'not_flagged' THEN 1 ELSE 0 END) AS not_flagged,
    SUM(CASE WHEN verdict = 'unscreenable' THEN 1 ELSE 0 END) AS unscreenable,
    SUM(CASE WHEN verdict = 'ineligible' THEN 1 ELSE 0 END) AS ineligible,
    AVG(worked_s) AS mean_worked_s
FROM screening
GROUP BY screened_on, model_digest""")
    op.execute("""CREATE VIEW turnaround AS
SELECT
    screened_on AS day,
    COUNT(*) AS screened,
    AVG(waited_s) AS mean_waited_s,
    MAX(waited_s) AS longest_waited_s,
    SUM(CASE WHEN waited_s <= 300 THEN 1 ELSE 0 END) AS within_five_minutes
FROM screening
GROUP BY screened_on""")
    op.execute("""CREATE VIEW worklist AS
SELECT
    study.band,
    study.sort_key,
    study.study_uid,
    study.accession_number,
    study.patient_id,
    study.state,
    screening.verdict,
    screening.probability,
    screening.threshold,
    study.reason,
    screening.reason AS verdict_reason,
    screening.detail AS verdict_detail,
    study.conflict,
    study.failure_code,
    study.priority,
    study.revision,
    study.received_at,
    study.screened_at,
    finding.overlay_digest,
    screening.model_digest,
    screening.provider,
    study.id AS study_id
FROM study
LEFT JOIN screening ON screening.id = study.current_screening_id
LEFT JOIN finding ON finding.screening_id = screening.id AND finding.ordinal = screening.deciding_finding
WHERE study.read_at IS NULL
ORDER BY study.band, study.sort_key, study.id""")
