"""From the bytes of a file to display values on a model's grid. Pure numpy, OpenCV and pydicom.

The trainer uses this package too, so training and serving see the same pixels. Knows no database, queue or model.
Begin with `reading` (the entry), then `dicom`, `pixel_data`, `display` and `preprocess`. Codecs: `transfer_syntaxes`.
Whether a file is whole: `missing_pixels` (pixels) and `completeness` (codestreams). Bounds on size: `limits`.
"""
