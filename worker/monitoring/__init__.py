"""Health and metrics of the installation, and drift of the model's inputs.

Reads the ledger, the broker and the store; repairs nothing.
Begin with `health` (`worker check`), then `metrics`, `reconciliation` (is everything accounted for?) and `drift`.
"""
