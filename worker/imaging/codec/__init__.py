"""Compressed frames: which transfer syntaxes are accepted, which decoder reads each, and whether a codestream is whole.

Knows codestreams by their own headers. Does not know what a DICOM header says of the pixels.
Begin with `transfer_syntaxes` (the table), then `completeness` and `resolution` (decoding at a lower one).
"""
