"""The judgement over a study, pure.

Knows headers and predictions. Touches no file, database or queue.
Begin with `rules`.
"""
