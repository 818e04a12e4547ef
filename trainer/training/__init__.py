"""From images to fitted weights.

Knows Keras, phases and checkpoints. Does not know the card of a model.
Begin with `fit`, then `batches` and `schedule`.
"""
