"""A file in a folder becomes an arrival in the ledger.

Knows folders, file events and the store. Does not know what a study shows, or how it is screened.
Begin with `watcher` (a folder, watched), then `folder_scan` (what lies in it) and `ingest` (one file is read, kept,
booked).
"""
