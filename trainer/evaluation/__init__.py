"""How a model file does on labelled images, measured as it will serve.

Runs the exported file through the code of the worker. Trains nothing.
Begin with `evaluate`, then `compare` and `shift`.
"""
