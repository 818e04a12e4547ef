"""Is the installation well, and is the model still given what it was made for?

Reads the ledger, the broker and the store; repairs nothing.
Begin with `health` (`worker check`), then `metrics` and `drift`.
"""
