"""From images to fitted weights.

Knows Keras, phases and checkpoints. Does not know the card of a model.
Begin with `fit`, then `schedule` (which epoch is next), `batches` (what it is trained on) and `checkpoint`.
"""
