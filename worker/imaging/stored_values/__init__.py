"""The pixel data of a DICOM object -> stored values, whatever its header says wrongly; and whether they are all there.

Knows samples, bits and rows. Does not know what a value means on a display.
Begin with `pixel_data`, then `image_pixel` (the header's side), `native` and `compressed`, `stored_bits` and `sign`
(which bits count), `missing_pixels` (whether all are there).
"""
