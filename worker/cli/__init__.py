"""What people type: one file a group of verbs.

Knows click and the terminal. Decides nothing about a study: it calls the rooms below and prints what they say.
Begin with `main` (every verb), then `options` (what verbs share).
"""
