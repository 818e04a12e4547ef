"""One run of `trainer fit`, from a folder of images to a model file, and the contents of its folder.

Knows the order of the steps. The steps themselves are in the rooms below.
Begin with `run`, then `record`.
"""
