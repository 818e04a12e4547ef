"""Which model is in force, and who decided it.

Knows promotions and comparisons. Does not know how a model was made.
Begin with `registry`, then `loader` (the models that a worker process keeps open).
"""
