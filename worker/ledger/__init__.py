"""The only package that writes rows of the database.

Every function is one transaction, unless its docstring says that it writes many rows in chunks. Knows no pixels and no
queue. Begin with `register` (files and studies come in), `outbox` (which studies to offer to the queue), `message` (the
studies of a message, brought to their ends), `claims` (who screens an offered study), `leases` (a claim is kept alive),
`verdicts` (what was found), `decisions` (what people decide), `ordering` (a study's place on the worklist).
"""
