"""A large ledger of rows without files: screened studies, most of them read. SQL statements make the rows."""

from sqlalchemy import text

from schema.database import Database

_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "

#: A study for each number: screened, one in ten flagged, one image in one file. The newest are unread.
_ROWS = (
    "INSERT INTO model_version (digest, name, recipe, threshold, card, first_used_at)"
    " VALUES ('m', 'bench', 'bench', 0.5, '{{}}', '{now}')",
    "INSERT INTO study (id, study_uid, patient_id, accession_number, state, revision, priority, received_at, asked_at,"
    " asked_because, settles_at, attempts, screened_at, read_at, current_screening_id, band, sort_key, reason,"
    " overdue_at, result_due_at) " + _NUMBERS + "SELECT i, '2.25.7' || (100000000 + i), 'P' || i, 'A' || i, 'screened',"
    " 1, 'routine', '{now}', '{now}', 'new_images', '{now}', 0, '{now}',"
    " CASE WHEN i > {count} - {unread} THEN NULL ELSE {moment} END, i, CASE WHEN i % 10 = 0 THEN 3 ELSE 6 END,"
    " CASE WHEN i % 10 = 0 THEN '3' ELSE '6' END || (1000000 + i * 7919 % 1000000) || (1700000000000 + i),"
    " 'below_threshold', '{later}', '{later}' FROM n",
    "INSERT INTO series (id, study_id, series_uid, modality) " + _NUMBERS + "SELECT i, i, '2.25.8' || i, 'DX' FROM n",
    "INSERT INTO instance (id, series_id, sop_instance_uid, digest, size_bytes, container, rows, columns, superseded,"
    " notes, received_at) " + _NUMBERS + "SELECT i, i, '2.25.9' || i, 'd' || i, 1, 'dicom', 1, 1, {no}, '[]', '{now}'"
    " FROM n",
    "INSERT INTO arrival (id, path, size_bytes, mtime_ns, state, in_store, priority, seen_at, changed_at, study_id,"
    " instance_id) " + _NUMBERS + "SELECT i, '/inbox/' || i || '.dcm', 1, 1, 'accepted', {yes}, 'routine', '{now}',"
    " '{now}', i, i FROM n",
    "INSERT INTO screening (id, study_id, revision, model_digest, verdict, reason, detail, probability, threshold,"
    " provider, deciding_finding, screened_at, screened_on, waited_s, worked_s) " + _NUMBERS + "SELECT i, i, 1, 'm',"
    " CASE WHEN i % 10 = 0 THEN 'flagged' ELSE 'not_flagged' END, 'below_threshold', '', 0.25, 0.5, 'cpu', 0, '{now}',"
    " '2026-01-01', 1, 1 FROM n",
    "INSERT INTO finding (id, screening_id, ordinal, instance_id, probability, overlay_digest, notes) "
    + _NUMBERS + "SELECT i, i, 0, i, 0.25, 'o' || i, '[]' FROM n",
    "INSERT INTO review (id, study_id, screening_id, outcome, reader, reviewed_at) "
    + _NUMBERS + "SELECT i, i, i, 'no_pneumonia', 'R', '{now}' FROM n WHERE i <= {count} - {unread}",
)  # fmt: skip

#: Tables whose ids PostgreSQL counts: the count has to go on from the last id here.
_COUNTED = ("study", "series", "instance", "arrival", "screening", "finding", "review")


def fill(database: Database, count: int, unread: int) -> None:
    """`count` screened studies of one image each, all but the newest `unread` of them read."""
    is_sqlite = database.engine.dialect.name == "sqlite"
    now, later = "2026-01-01 08:00:00.000000", "2099-01-01 08:00:00.000000"
    if not is_sqlite:
        now, later = now + "+00", later + "+00"
    words = {
        "count": count, "unread": unread, "now": now, "later": later,
        "yes": "1" if is_sqlite else "TRUE", "no": "0" if is_sqlite else "FALSE",
        "moment": f"'{now}'" if is_sqlite else f"TIMESTAMPTZ '{now}'",
    }  # fmt: skip
    with database.writing() as session:
        for statement in _ROWS:
            session.connection().exec_driver_sql(statement.format(**words).replace("%", "%" if is_sqlite else "%%"))
        if not is_sqlite:
            for table in _COUNTED:
                session.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {count})"))
    if not is_sqlite:  # as its autovacuum would; SQLite plans without statistics
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
