"""Whether images and predictions differ from those that the model was measured on.

Knows counts and references. Does not know a patient.
Begin with `evaluate`, then `statistics` (pure) and `table`.
"""
