"""The only package that writes rows of the database.

Every function is one transaction, unless its docstring says that it writes many rows in chunks. Knows no pixels and no
queue. Begin with the rooms, in the order in which a study meets them: `intake` (files come in), `screening` (it is
offered, claimed, recorded), `worklist` (its place on the list), `dispatch` (its result goes to an archive). Then
`decisions` (what people decide), `reading_room` (accounts of the page) and `operations` (models, drift, batch runs).
`connect` opens the database, `transactions` turns its errors into this program's own.
"""
