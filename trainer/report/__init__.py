"""The report of a run as a page that a person looks at, and as JSON with the same numbers.

Reads the folder of a run and its model file. Changes neither.
Begin with `page`, then `summary` (the numbers) and `cases` (the images to look at first).
"""

#: What a report states PPV and NPV for where nobody says otherwise.
PREVALENCE = 0.1
