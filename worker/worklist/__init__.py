"""What people see: the worklist and all data of one study.

Reads the views of the database. Never writes.
Begin with `unread_list` (on a terminal and as JSON), `page_list` (on the page), then `study_view` (one study). Studies
that wait for a result: `underway`. What all use: `columns`. The order of the list is in
`schema/views/worklist.sql`; the ledger decides each study's place (`worker/ledger/worklist/ordering.py`).
"""
