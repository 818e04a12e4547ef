"""From a fitted network to one model file with its card.

The room that knows TensorFlow and ONNX graphs (beside it `evaluation.logit_line` reads the end of one). Does not choose
images or recipes.
Begin with `graph`, then `serving_graph` and `card`.
"""
