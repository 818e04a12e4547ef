"""The result objects for archives as rows: what is due, what was answered, what an archive does not have.

Knows results and their revisions. Does not make the objects and opens no association: `worker.dicom` does.
Begin with `dispatches`, then `retry_schedule` (when one is tried again), `result_facts` (what one object says) and
`undelivered`.
"""
