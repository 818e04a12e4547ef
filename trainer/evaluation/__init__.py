"""How good a model file is on labelled images, measured with the code of the worker.

Trains nothing.
Begin with `evaluate`, then `compare` and `shift`.
"""
