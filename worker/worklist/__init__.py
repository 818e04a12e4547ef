"""What people see: the worklist and everything kept of one study.

Reads the views of the database. Never writes.
Begin with `queries`; the order of the list is in `schema/views/worklist.sql`.
"""
