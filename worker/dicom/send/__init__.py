"""The process `worker send`: result objects for an archive, made, sent, and their answers recorded.

Knows reports, captures and key objects. Does not know which result is due: `worker.ledger.dispatch` does.
Begin with `sender`, then `composer` (which object is due) and `report` (TID 1500); `destination` sends them.
"""
