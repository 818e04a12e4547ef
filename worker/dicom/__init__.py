"""DICOM on the network: images are received, results are sent.

Knows associations, statuses and result objects. Does not know how a study is screened, and decodes no pixels.
Begin with `receiver` (C-STORE and C-ECHO), then `reception` (what becomes of one object).
"""
