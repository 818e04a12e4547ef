-- How long studies waited, from arrival to result, day by day (UTC).
CREATE VIEW turnaround AS
SELECT
    screened_on AS day,
    COUNT(*) AS screened,
    AVG(waited_s) AS mean_waited_s,
    MAX(waited_s) AS longest_waited_s,
    SUM(CASE WHEN waited_s <= 300 THEN 1 ELSE 0 END) AS within_five_minutes
FROM screening
WHERE shadow_of IS NULL
GROUP BY screened_on
