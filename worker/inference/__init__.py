"""A model file and its predictions for an image.

Knows ONNX Runtime, the card and the heat map. Does not know studies, the ledger or the queue.
Begin with `card` (the properties of a model), then `model` and `overlay`. The shipped model is in `models/`.
"""
