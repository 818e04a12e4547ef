"""A study's place on the worklist: its band, its sort key, and when it is overdue.

Decides the order, and stores it with every change of a study. Prints nothing: people read it through `worker.worklist`.
Begin with `ordering`, then `overdue` and `silent_run`.
"""
