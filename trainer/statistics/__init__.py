"""How good scores are, and at which threshold they become decisions. Pure: numpy only.

Knows numbers and labels. Does not know images, models or files.
Begin with `metrics`, then `operating_point`.
"""
