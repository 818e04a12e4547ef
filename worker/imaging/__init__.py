"""From the bytes of a file to display values on a model's grid. Pure numpy, OpenCV and pydicom.

The trainer uses this package too, so training and serving see the same pixels. Knows no database, queue or model.
Begin with `image_file` (the entry); README.md lists the files that an object then goes through, in their order.
"""
