"""Decodes compressed pixels in child processes with bounded time and memory.

Knows that codecs crash. Does not know what the pixels show.
Begin with `decoder` (the parent), then `child` and `pool`.
"""
