"""Which verdicts were given before their reader knew what the model said, as conditions in SQL."""

from schema.vocabulary import AuditAction, Reason

#: A review that is known to be unseen: by the page, or in a silent run of which nobody had opened the study before.
UNSEEN = """CASE WHEN {review}.saw_probability IS NOT NULL THEN {review}.saw_probability IS FALSE
    ELSE study.reason = :silent_run AND NOT EXISTS (
        SELECT 1 FROM audit WHERE audit.study_uid = study.study_uid AND audit.deed = :shown
        AND audit.happened_at <= {review}.reviewed_at
    )
END"""

#: Values of the condition.
VALUES = {"silent_run": str(Reason.SILENT_RUN), "shown": str(AuditAction.SHOWN)}

#: The newest review of `study`; the newest one that was given unseen.
NEWEST = "(SELECT MAX(newest.id) FROM review AS newest WHERE newest.study_id = study.id)"
NEWEST_UNSEEN = f"""(
    SELECT MAX(newest.id) FROM review AS newest WHERE newest.study_id = study.id AND {UNSEEN.format(review="newest")}
)"""

#: A withdrawal takes a study's earlier verdicts out of force too.
WITHDRAWN = """EXISTS (
    SELECT 1 FROM withdrawal WHERE withdrawal.study_id = study.id AND withdrawal.review_id >= {review}.id
)"""
