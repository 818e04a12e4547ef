"""Whether scanners send, and the model answers, something else than when it was measured.

Knows counts and references. Does not know a patient.
Begin with `evaluate`, then `statistics` (pure) and `table`.
"""
