"""The database: vocabulary, tables, views and migrations.

Imports SQLAlchemy and no other package of this code base.
Begin with `vocabulary` (the words that rows store), then `models` (studies, files, results), `operations` and
`reading_room` (the other tables) and `views/` (what readers ask). `database` opens one, `migrate` brings it up to date.
"""
