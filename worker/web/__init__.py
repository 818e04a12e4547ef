"""The page on which a radiologist sees the list and the pictures, and gives a verdict.

Reads through `worker.worklist`; every write goes through the ledger. Does not know the queue, and runs no model.
Begin with `application`, the list of all routes, then `pages`. `guards` and `browser_request` decide who may ask what;
`page_context` holds what every page works with.
"""
