"""The processes and folders of one installation on one machine.

Knows settings, locks, sockets, child processes and logs. Does not know studies.
Begin with `configuration` (the settings in force) and `home` (the state folder), then `children` and `redis_server`.
"""
