"""Compressed frames: which transfer syntaxes are accepted, which decoder reads each, and whether a codestream is whole.

Knows codestreams by their own headers. Does not know what a DICOM header says of the pixels.
Begin with `transfer_syntaxes` (the table, and `decode_codestream`), then `codestream` (what headers say), `decoders`,
`completeness` (checked before decoding), `filled_up` and `more_rows` (after it), `resolution` (a lower one).
"""
