"""When a batch may run.

Knows the clock. Does not know what a batch does.
Begin with `window`, then `beat` (the Celery schedule).
"""
