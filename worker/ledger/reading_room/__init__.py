"""The rows of the page: its accounts, their sessions, failed log-ins, and who reads which study.

Knows names, roles and the digests of secrets. Does not know HTTP, and stores no password.
Begin with `accounts`, then `sessions` and `holds`.
"""
