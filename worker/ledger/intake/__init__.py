"""Files and received objects become rows: each file in one state, each new image in its study.

Knows arrivals, studies and who watches which part of an inbox. Does not read a file, and gives no verdict.
Begin with `arrivals` (what intake hands over), then `register` and `files`.
"""
