"""The processes and folders of one installation on one machine.

Knows locks, sockets, child processes and logs. Does not know studies.
Begin with `home` (the state folder), then `children` and `redis_server`.
"""
