"""A whole archive, or stored studies, screened in the hours of a night; and the report of it.

Knows the queue of the night and when the window ends. Takes no file out of any folder.
Begin with `run`, then `report`.
"""
