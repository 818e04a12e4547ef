"""The grayscale display pipeline of DICOM (PS3.4 N.2): modality LUT or rescale, VOI LUT or window, inversion last.

Knows look-up tables and windows. Does not know how the stored values were decoded.
Begin with `pipeline`, then `elements` (what a header says of it) and `palette` (PALETTE COLOR).
"""
