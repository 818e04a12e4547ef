"""Labelled images: which there are, whose they are, in which split, and how they are changed in training.

Reads pixels through `worker.imaging` alone. Does not know networks.
Begin with `manifest` and `folders`, then `split` and `augment`.
"""
