"""The watcher and the queue workers of one installation, run together.

Knows in which order the parts start and stop. Does not know how a file is read or a study screened.
Begin with `service` (what is opened), then `screen_paths` (`worker screen`) and `watch_inbox` (`worker watch` and
`worker run`); `outage_wait`: what happens while the broker or the database is away.
"""
