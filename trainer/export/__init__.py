"""From a fitted network to one model file with its card.

The only room that knows TensorFlow and ONNX graphs. Does not choose images or recipes.
Begin with `graph`, then `serving_graph` and `card`.
"""
