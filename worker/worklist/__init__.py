"""What people see: the worklist and all data of one study.

Reads the views of the database. Never writes.
Begin with `queries`; the order of the list is in `schema/views/worklist.sql`.
"""
