"""Which model is in force, and who decided it.

Knows promotions and comparisons. Does not know how a model was made.
Begin with `registry`, then `non_inferiority` (what `promote` asks of a comparison) and `loader` (the models that a
worker process keeps open).
"""
