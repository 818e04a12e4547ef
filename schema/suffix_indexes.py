"""Indexes over the end of a path and of a UID, because people name files and studies by these ends.

Each is an expression, the same on SQLite and PostgreSQL, with an index over it. A query uses that index only if it
contains exactly this expression. Older programs, which do not know the index, still keep it up to date when they write.
"""

#: The name of a file in `arrival`, without its folder.
FILE_NAME = "SUBSTR(path, LENGTH(RTRIM(path, REPLACE(path, '/', ''))) + 1)"

#: How many characters of a Study Instance UID are indexed from its end; the printed list shows twelve.
UID_END_LENGTH = 8

#: The end of a `study_uid`.
UID_END = f"SUBSTR(study_uid, LENGTH(study_uid) - {UID_END_LENGTH - 1})"
