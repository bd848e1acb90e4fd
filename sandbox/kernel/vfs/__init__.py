"""Inodes, dentries, open files, locks, and the operations of an open file, whatever is below.

It touches no guest memory: data crosses as bytes of page-cache blocks, or by the operations of who is above.
"""
