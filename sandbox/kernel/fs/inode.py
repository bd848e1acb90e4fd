"""Inodes."""

from __future__ import annotations


class Inode:
    """What a name leads to."""

    name = ""
