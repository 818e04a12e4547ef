"""From the bytes of a file to display values on a model's grid. Pure numpy, OpenCV and pydicom.

The trainer uses this package too, so training and serving see the same pixels. Knows no database, queue or model.
Begin with `image_file` (the entry), then `dicom_object`, which leads through the rooms in their order: `stored_values`
(pixel data), `codec` (compressed ones) and `display` (look-up tables and windows); last `preprocess` (the grid).
Bounds on size: `limits`. The header without pixels: `header_pass` (the Instance), then `header` (single elements),
`part10` (the container), `element_walk` and `first_bytes`.
"""
