"""Export labelled images and DICOM objects, without anything that names a patient.

Reads the ledger and the store. Sends nothing over a network.
Begin with `deidentify` (one object), then `studies` and `labels`.
"""
