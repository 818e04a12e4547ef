"""The rows of an installation's operation: which model serves, drift, batch runs, signs of life, failed devices.

Records what people and processes say. Judges no model: `worker.registry` and `worker.monitoring` do.
Begin with `promotions`.
"""
