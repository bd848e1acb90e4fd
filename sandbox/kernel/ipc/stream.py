"""Inodes that programs read and write without a position, and on which they may have to wait."""

from __future__ import annotations

from sandbox.kernel.vfs.inode import Inode
from sandbox.kernel.vfs.operations import FileOperations


class Stream(Inode, FileOperations):
    """Base of terminals, event counters, sockets: each is what its open files do."""

    def operations(self) -> FileOperations:
        return self
