"""What people see: the worklist and all data of one study.

Reads the views of the database. Never writes.
Begin with `queries`, then `listing` (the list of the page) and `study_view`. The order of the list is in
`schema/views/worklist.sql`; the ledger decides each study's place (`worker/ledger/worklist/ordering.py`).
"""
