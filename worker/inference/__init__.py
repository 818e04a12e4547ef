"""A model file and what it says of an image.

Knows ONNX Runtime, the card and the heat map. Does not know studies, the ledger or the queue.
Begin with `card` (what a model promises), then `model` and `overlay`. The shipped model lies in `models/`.
"""
