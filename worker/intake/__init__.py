"""A file in a folder becomes an arrival in the ledger.

Knows folders, file events and the store. Does not know how a study is screened.
Begin with `watcher` (watches a folder), then `folder_scan` (lists its files) and `ingest` (reads one file, stores it
and records it in the ledger), which asks `copy_comparison` where an image is known already.
"""
