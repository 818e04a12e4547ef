"""The reading room: the page on which a radiologist sees the list and the picture, and gives a verdict.

Reads through `worker.worklist`; every write goes through the ledger. Does not know the queue, and runs no model.
Begin with `application`, the list of all routes; `guards` and `asking` decide who may ask what.
"""
