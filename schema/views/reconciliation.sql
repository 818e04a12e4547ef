-- The two sums of the promise: every file seen, and every study, in exactly one state. `worker reconcile` adds them up.
CREATE VIEW reconciliation AS
SELECT 'file' AS kind, state, COUNT(*) AS n FROM arrival GROUP BY state
UNION ALL
SELECT 'study' AS kind, state, COUNT(*) AS n FROM study GROUP BY state
