"""Which model is in force, and who decided so.

Knows promotions and comparisons. Does not know how a model was made.
Begin with `registry`, then `loader` (what a worker process holds open).
"""
