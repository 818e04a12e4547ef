-- How much was screened, day by day (UTC) and model by model, and what came of it.
CREATE VIEW throughput AS
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
WHERE shadow_of IS NULL
GROUP BY screened_on, model_digest
