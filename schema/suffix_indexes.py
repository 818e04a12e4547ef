"""What people call a thing by and no column holds: the end of a path, the end of a UID.

Each is an expression, alike on SQLite and PostgreSQL, with an index over it; a query is served by that index only when
it says the expression word for word. Older programs that know nothing of it keep the index whole as they write.
"""

#: The name of a file in `arrival`, without its folder.
FILE_NAME = "SUBSTR(path, LENGTH(RTRIM(path, REPLACE(path, '/', ''))) + 1)"

#: How many characters of a Study Instance UID are indexed from its end; the printed list shows twelve.
UID_END_LENGTH = 8

#: The end of a `study_uid`.
UID_END = f"SUBSTR(study_uid, LENGTH(study_uid) - {UID_END_LENGTH - 1})"
