"""The rules that give a study its verdict.

Pure: knows headers and predictions, and uses no file, database or queue.
Begin with `rules`.
"""
