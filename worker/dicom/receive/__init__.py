"""The process `worker receive`: an SCP of C-STORE and C-ECHO, whose objects become arrivals of the ledger.

Knows peers, associations and statuses. Does not know what becomes of a study.
Begin with `receiver` (who may associate), then `reception` (what becomes of one object) and `statuses` (the answers).
Below them: `server` and `connections` (the socket), `spooling_provider` (messages), `spool` (files on their way in).
"""
