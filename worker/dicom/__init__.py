"""DICOM on the network: images are received, results are sent.

Knows associations, statuses and result objects. Does not know how a study is screened, and decodes no pixels.
Begin with `receive` (C-STORE and C-ECHO from modalities) or `send` (results to an archive). Both use the files beside
them: `identity` (what names this program in DICOM), `tls`, `deadline_socket` and the log of the library.
"""
