-- Number of files seen and of studies in each state; each is in exactly one. `worker reconcile` checks the sums.
CREATE VIEW reconciliation AS
SELECT 'file' AS kind, state, COUNT(*) AS n FROM arrival GROUP BY state
UNION ALL
SELECT 'study' AS kind, state, COUNT(*) AS n FROM study GROUP BY state
