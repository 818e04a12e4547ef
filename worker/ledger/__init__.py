"""The only room that writes rows of the database.

Every function is one transaction, unless it says that it takes many rows in chunks. Knows no pixels and no queue.
Begin with `register` (files and studies come in), `outbox` (what to offer to the queue), `claims` (an offered study
moves to a verdict), `decisions` (what people decide), `ordering` (a study's place on the worklist).
"""
