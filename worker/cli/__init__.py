"""The command line: one file for each group of verbs.

Knows click and the terminal. Decides nothing about a study: it calls the packages below and prints their results.
Begin with `main` (every verb), then `options` (what verbs share).
"""
