"""The report of a run as an HTML page, and as JSON with the same numbers.

Reads the folder of a run and its model file. Changes neither.
Begin with `page`, then `summary` (the numbers) and `cases` (the images to check first).
"""

#: Default prevalence for PPV and NPV.
PREVALENCE = 0.1
