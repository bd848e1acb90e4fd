"""The tree of files that one machine has: a root, and what is laid over it.

Without a host directory the root is an empty file system in memory, writable by the guest.  With one, host
files are reachable below it (see ``hostroot``), read-only unless asked for.  ``files`` are added to either
under their absolute paths, over host files as mounts are: the program itself comes in this way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EACCES, EBADF, ENODEV, ENOENT, KernelError
from sandbox.kernel.abi.flags import O_CREAT, O_EXCL, O_NOCTTY, O_PATH, O_TRUNC, R_OK, S_IFREG, X_OK
from sandbox.kernel.fs import namei
from sandbox.kernel.fs.chardev import memory_devices
from sandbox.kernel.fs.file import File
from sandbox.kernel.fs.hostroot import GIVEN_DEVICE, HostTree
from sandbox.kernel.fs.inode import BLOCK_SIZE, Directory, Inode, as_directory
from sandbox.kernel.fs.namei import Dentry
from sandbox.kernel.fs.ramfs import RamDirectory, RamFile, RamFs
from sandbox.x86.errors import ConfigurationError

if TYPE_CHECKING:
    from sandbox.kernel.task import Task

OPEN_ONLY = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC
"""Flags that open(2) uses up: F_GETFL does not show them."""


class FileSystem:
    """All files of a machine.

    ``files`` maps absolute paths to contents, or to host files (read-only).  ``now`` is the guest's time in
    nanoseconds since 1970.  Raises ConfigurationError for a root or a host file that is none.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        writable: bool = False,
        files: Mapping[str, bytes | Path] | None = None,
        devices: bool = True,
        seed: int = 0,
        now: Callable[[], int] = lambda: 0,
    ) -> None:
        self.ram = RamFs(now)
        top: Directory = self.ram.root if root is None else HostTree(writable).directory(root)
        self.root = Dentry(top)
        top.dentry = lambda: self.root
        self._given = HostTree(device=GIVEN_DEVICE)
        self._pinned: list[Directory] = []
        """Directories with something laid over them: they must not be forgotten while nobody uses them."""
        if devices:
            for name, inode in memory_devices(seed).items():
                self.pin(b"/dev/" + name, inode)
            if root is None:
                self.ram.root.mkdir(b"tmp", 0o1777)
        for path, data in (files or {}).items():
            self.add(path, data)

    def add(self, path: str, data: bytes | Path, mode: int = 0o755) -> Inode:
        """Lay a file over the tree.  Raises ConfigurationError."""
        if isinstance(data, Path):
            inode: Inode = self._given.file(data)
        else:
            inode = self.ram.file(data, mode, path)
        self.pin(path.encode(), inode)
        return inode

    def pin(self, path: bytes, inode: Inode) -> None:
        """Lay an inode over the tree, with the directories that are missing on the way to it.

        Raises ConfigurationError if the path is not absolute or leads through something that is no directory.
        """
        names = [name for name in path.split(b"/") if name]
        if not path.startswith(b"/") or not names or {b".", b".."} & set(names):
            raise ConfigurationError(f"{path.decode(errors='replace')}: not a plain absolute path of the guest")
        try:
            directory = as_directory(self.root.inode)
            for name in names[:-1]:
                directory = self._enter(directory, name)
            if isinstance(directory, RamDirectory) and isinstance(inode, RamFile):
                directory.add(names[-1], inode)
            else:
                self._pin(directory, names[-1], inode)
        except KernelError as error:
            raise ConfigurationError(f"{path.decode(errors='replace')}: {error} in the guest's tree") from error
        inode.name = inode.name or path.decode(errors="replace")

    def _enter(self, directory: Directory, name: bytes) -> Directory:
        try:
            return as_directory(directory.lookup(name))
        except KernelError as error:
            if error.errno != ENOENT:
                raise
        if isinstance(directory, RamDirectory):
            return directory.mkdir(name, 0o755)
        made = RamDirectory(self.ram, 0o755)
        self._pin(directory, name, made)
        return made

    def _pin(self, directory: Directory, name: bytes, inode: Inode) -> None:
        directory.pinned[name] = inode
        self._pinned.append(directory)

    # -- what system calls ask ---------------------------------------------------------------------------

    def open(self, task: Task, at: Dentry, path: bytes, flags: int, mode: int = 0) -> File:
        """open(2) relative to ``at``: the open file, for which the caller finds a descriptor.

        After O_TRUNC the caller drops the pages that it has cached.  Raises KernelError as ``open_namei``.
        """
        dentry = namei.open_namei(self.root, at, path, flags, mode & 0o7777 & ~task.umask)
        inode = dentry.inode
        if flags & O_TRUNC and not flags & O_PATH and inode.kind == S_IFREG:
            inode.truncate(0)
        return File(inode, flags & ~OPEN_ONLY, dentry)

    def open_exec(self, task: Task, path: bytes) -> tuple[Inode, str]:
        """What execve(2) runs, a regular file with an x bit, and its path.  Raises KernelError(EACCES, …)."""
        dentry = namei.lookup(self.root, task.cwd, path)
        inode = dentry.inode
        if inode.kind != S_IFREG:
            raise KernelError(EACCES)
        inode.check_access(R_OK | X_OK)
        inode.check_open(False)
        return inode, os.fsdecode(dentry.path())

    def mappable(self, task: Task, fd: int) -> tuple[Inode, bool]:
        """The inode that mmap(2) maps, and whether a shared mapping may be written.

        Raises KernelError: EBADF, EACCES (not open for reading), ENODEV (cannot be mapped).
        """
        file = task.files.get(fd)
        if file.flags & O_PATH:
            raise KernelError(EBADF)
        if not file.readable:
            raise KernelError(EACCES)
        if file.inode.kind != S_IFREG:
            raise KernelError(ENODEV)
        return file.inode, file.writable

    def program_bytes(self, path: str) -> bytes | None:
        """The contents of the file at an absolute path, for its symbols; None if there is none."""
        try:
            inode = namei.lookup(self.root, self.root, os.fsencode(path)).inode
            return read_all(inode)
        except KernelError:
            return None


def read_all(inode: Inode) -> bytes:
    """The whole contents, for the kernel's own use (reading an executable's headers and symbols)."""
    return b"".join(inode.read_block(index) for index in range(-(-inode.size // BLOCK_SIZE)))
