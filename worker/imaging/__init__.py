"""The eyes: from the bytes of a file to display values on a model's grid. Pure numpy, OpenCV and pydicom.

The trainer borrows this room, so training and serving see the same pixels.
"""
