"""Processes as a whole: fork, exec, exit and wait, kernel threads, the first descriptors, signals out of faults.

The first floor above the record: its functions take the kernel and use what they need of it.
"""
