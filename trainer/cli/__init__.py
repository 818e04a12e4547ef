"""The command line: one file for each group of verbs.

Knows click and the terminal. Loads Keras only in the verbs that need it.
Begin with `main` (every verb), then `options`.
"""
