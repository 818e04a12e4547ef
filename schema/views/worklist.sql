-- What to read next: every unread study, in the one order there is. Bands from the top: 1 stat, 2 overdue, 3 flagged,
-- 4 needs attention, 5 waiting, 6 not flagged, 7 ineligible. The ledger keeps band and sort_key; nothing is computed here.
CREATE VIEW worklist AS
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
ORDER BY study.band, study.sort_key, study.id
