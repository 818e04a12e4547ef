"""A whole archive, or stored studies, screened in the hours of a night; and the report of it.

Knows the queue of the night and when the window ends. Takes no file out of any folder, and copies none unless
identifiers are pseudonyms. Studies of an archive are never overdue; one that comes through an inbox later, or from a
person, is raised. Re-screening changes no priority and puts nothing back on the list that was read.
Begin with `run`, then `report`.
"""
