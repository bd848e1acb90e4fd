"""Streams between tasks: what the open files of pipes, sockets and event counters do.

It may use tasks, signals and user access; the ring of a pipe itself is in fs.
"""
