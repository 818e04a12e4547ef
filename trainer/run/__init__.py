"""One run of `trainer fit`, from a folder of images to a model file, and what lies in its folder.

Knows the order of the steps. The steps themselves are in the rooms below.
Begin with `run`, then `record`.
"""
