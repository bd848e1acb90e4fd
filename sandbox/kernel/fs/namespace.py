"""The tree of files that one machine has: a root, and what is mounted on it.

The root is a file system in memory over a host directory (see ``overlay``), or over nothing.  With ``writable`` it is
the host directory itself (see ``hostroot``), and changes go there.  ``files`` are put into the tree under their
absolute paths: the program itself comes in this way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Protocol

from sandbox.kernel.abi.errno import EACCES, ENOENT, EOVERFLOW, KernelError
from sandbox.kernel.abi.flags import (
    O_CREAT,
    O_EXCL,
    O_LARGEFILE,
    O_NOCTTY,
    O_PATH,
    O_TRUNC,
    S_IFREG,
    X_OK,
)
from sandbox.kernel.abi.inotify import IN_ACCESS, IN_OPEN
from sandbox.kernel.abi.structs import makedev
from sandbox.kernel.base.tape import Tape
from sandbox.kernel.base.time import EPOCH
from sandbox.kernel.fs.hostcalls import HostCalls
from sandbox.kernel.fs.hostfs import HostDirectory, HostTree
from sandbox.kernel.fs.hostinode import GIVEN_DEVICE, HOST_DEVICE, InodeNumbers
from sandbox.kernel.fs.overlayfs import Overlay
from sandbox.kernel.fs.pipe import PIPE_DEVICE
from sandbox.kernel.fs.ramfs import RAM_DEVICE, RamDirectory, RamFs, RamInode
from sandbox.kernel.vfs import namei
from sandbox.kernel.vfs.dcache import Dentry
from sandbox.kernel.vfs.file import LARGEST_SMALL, File
from sandbox.kernel.vfs.inode import BLOCK_SIZE, Directory, Inode, as_directory
from sandbox.kernel.vfs.notify import fsnotify
from sandbox.kernel.vfs.permission import Subject, permission
from sandbox.x86.errors import ConfigurationError

OPEN_ONLY = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC
"""Flags that open(2) uses up: F_GETFL does not show them."""
DEV_DEVICE = makedev(0, 5)
"""Where devices and standard streams are; the streams have the inode numbers 1 to 3."""
PROC_DEVICE = makedev(0, 21)
SHM_DEVICE = makedev(0, 22)
SOCKET_DEVICE = makedev(0, 8)
EXT_MAGIC, TMPFS_MAGIC = 0xEF53, 0x01021994
OTHER_MAGIC = {HOST_DEVICE: 0x794C7630, PIPE_DEVICE: 0x50495045, PROC_DEVICE: 0x9FA0, SOCKET_DEVICE: 0x534F434B}
NO_BLOCKS = {PIPE_DEVICE, PROC_DEVICE, SOCKET_DEVICE}
FIRST_DEV_INO = 100
"""Smaller numbers on this device are those of character devices and standard streams."""
DEV_LINKS = {b"fd": b"/proc/self/fd", b"stdin": b"fd/0", b"stdout": b"fd/1", b"stderr": b"fd/2"}


class Walker(Protocol):
    """A task, as far as the tree of files knows it."""

    @property
    def cwd(self) -> Dentry:
        """Where relative paths start."""
        ...

    @property
    def root(self) -> Dentry | None:
        """Where absolute paths start after chroot, None for the tree's root."""
        ...

    @property
    def umask(self) -> int:
        """Mode bits that new files do not get."""
        ...

    @property
    def cred(self) -> Subject:
        """Whose rights count."""
        ...


class FileSystem:
    """All files of a machine.

    ``files`` maps absolute paths to contents, or to host files, which are only read.  ``now`` is the guest's time in
    nanoseconds since 1970, ``latest`` is as in HostTree; ``tape`` keeps what the host says.

    Raises ConfigurationError for a root or a host file that is none.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        writable: bool = False,
        files: Mapping[str, bytes | Path] | None = None,
        devices: bool = True,
        now: Callable[[], int] = lambda: EPOCH,
        latest: int | None = None,
        tape: Tape | None = None,
    ) -> None:
        self.now = now
        numbers = InodeNumbers()
        calls = _host_calls(tape)
        self._given = HostTree(device=GIVEN_DEVICE, numbers=numbers, latest=latest, calls=calls)
        lower: HostDirectory | None = None
        if root is not None:
            below = HostTree(writable, numbers=numbers, latest=latest, now=self._time, calls=calls)
            lower = below.directory(root)
        top: Directory
        if lower is None or not writable:
            self.ram = Overlay(lower, numbers, self._time, device=HOST_DEVICE if lower is not None else RAM_DEVICE)
            top = self.ram.root
        else:
            self.ram = Overlay(None, numbers, self._time, device=RAM_DEVICE)
            top = lower
        self.root = Dentry(top)
        top.dentry = lambda: self.root
        device, kind = ("/dev/root", "ext4") if top is lower else ("overlay", "overlay")
        self.rename_cookies = count(1)
        """For watchers of a move: each machine has its own, so that a run does not depend on those before it."""
        self.mounts = [(device, "/", kind, "rw,noatime")]
        """(device, path, type, options) as /proc/mounts shows them."""
        self._pinned: list[Directory] = []
        """Directories with something laid over them: they must not be forgotten while nobody uses them."""
        self.standard = devices
        """It has /dev and /tmp, and the kernel adds /proc."""
        if devices:
            self._make_dev()
            self._make_tmp()
        for path, data in (files or {}).items():
            self.add(path, data)

    def _time(self) -> int:
        return self.now()

    def _make_dev(self) -> None:
        directory = RamFs(self._time, device=DEV_DEVICE, first_ino=FIRST_DEV_INO).root
        for name, target in DEV_LINKS.items():
            directory.symlink(name, target)
        self.mount("dev", "/dev", "devtmpfs", directory)
        self.mount("tmpfs", "/dev/shm", "tmpfs", RamFs(self._time, device=SHM_DEVICE, mode=0o1777).root)

    def _make_tmp(self) -> None:
        try:
            namei.lookup(self.root, self.root, b"/tmp")
        except KernelError:
            if isinstance(self.root.inode, HostDirectory):
                self.mount("tmpfs", "/tmp", "tmpfs", RamFs(self._time, mode=0o1777).root)
            else:
                namei.mkdir(self.root, self.root, b"/tmp", 0o1777)

    def mount(self, device: str, path: str, kind: str, directory: Directory) -> None:
        """Mount another file system's root at an absolute path.  Raises ConfigurationError."""
        self._pin(path, directory)
        self.mounts.append((device, path, kind, "rw,noatime"))

    def add(self, path: str, data: bytes | Path, mode: int = 0o755) -> Inode:
        """Put a file into the tree; the guest's changes to it stay in memory.  Raises ConfigurationError."""
        if isinstance(data, Path):
            inode: RamInode = self.ram.above(self._given.file(data))
        else:
            inode = self.ram.file(data, mode, path)
            inode.link_count(1)
        self._pin(path, inode)
        return inode

    def add_devices(self, devices: Mapping[bytes, Inode]) -> None:
        """Put device nodes into /dev, by name."""
        directory = as_directory(namei.lookup(self.root, self.root, b"/dev").inode)
        directory.pinned.update(devices)
        for each in devices.values():
            each.born = self.now()

    def add_device(self, path: str, inode: Inode) -> None:
        """Put a device's node into the tree.  Raises ConfigurationError."""
        self._pin(path, inode)

    def exists(self, path: str) -> bool:
        """Something is at an absolute path."""
        try:
            namei.lookup(self.root, self.root, os.fsencode(path))
        except KernelError:
            return False
        return True

    def _pin(self, path: str, inode: Inode) -> None:
        """Put an inode into the tree, with the directories that are missing on the way to it.

        Raises ConfigurationError if the path is not absolute or leads through something that is no directory.
        """
        names = [name for name in os.fsencode(path).split(b"/") if name]
        if not path.startswith("/") or not names or {b".", b".."} & set(names):
            raise ConfigurationError(f"{path}: not a plain absolute path of the guest")
        try:
            at = self.root
            for name in names[:-1]:
                at = self._enter(at, name)
            directory = as_directory(at.inode)
            if isinstance(directory, RamDirectory) and isinstance(inode, RamInode) and directory.fs is inode.fs:
                directory.put(names[-1], inode)
            else:
                self._lay_over(directory, names[-1], inode)
        except KernelError as error:
            raise ConfigurationError(f"{path}: {error} in the guest's tree") from error
        inode.name = inode.name or path
        inode.born = inode.born or self.now()

    def _enter(self, at: Dentry, name: bytes) -> Dentry:
        try:
            found = namei.lookup(self.root, at, name)
            as_directory(found.inode)
            return found
        except KernelError as error:
            if error.errno != ENOENT:
                raise
        directory = as_directory(at.inode)
        if isinstance(directory, RamDirectory):
            directory.mkdir(name, 0o755)
        else:
            self._lay_over(directory, name, RamDirectory(self.ram, 0o755))
        return namei.lookup(self.root, at, name)

    def _lay_over(self, directory: Directory, name: bytes, inode: Inode) -> None:
        directory.pinned[name] = inode
        self._pinned.append(directory)

    # -- what system calls ask ---------------------------------------------------------------------------

    def root_of(self, task: Walker) -> Dentry:
        """Where the absolute paths of a task start."""
        return task.root or self.root

    def open(self, task: Walker, at: Dentry, path: bytes, flags: int, mode: int = 0) -> File:
        """open(2) relative to ``at``: the open file, for which the caller finds a descriptor.

        After O_TRUNC the caller drops the pages that it has cached.  Raises KernelError as ``open_namei``.
        """
        return self.open_found(self.find_open(task, at, path, flags, mode), flags)

    def find_open(self, task: Walker, at: Dentry, path: bytes, flags: int, mode: int = 0) -> Dentry:
        """The first half of ``open``: what there is to be opened, created if need be."""
        return namei.open_namei(self.root_of(task), at, path, flags, mode & 0o7777 & ~task.umask, task.cred)

    def open_found(self, dentry: Dentry, flags: int) -> File:
        """The second half of ``open``.  Raises KernelError(EOVERFLOW) for 2 GB without O_LARGEFILE."""
        inode = dentry.inode
        if inode.kind == S_IFREG and not flags & O_PATH:
            if not flags & O_LARGEFILE and inode.size > LARGEST_SMALL:
                raise KernelError(EOVERFLOW)
            if flags & O_TRUNC:
                inode.truncate(0)
        return File(inode, flags & ~OPEN_ONLY, dentry)

    def open_exec(self, task: Walker, path: bytes) -> tuple[Inode, str]:
        """What execve(2) runs, a regular file with an x bit, and its path.  Raises KernelError(EACCES, …)."""
        dentry = namei.lookup(self.root_of(task), task.cwd, path, who=task.cred)
        inode = dentry.inode
        if inode.kind != S_IFREG:
            raise KernelError(EACCES)
        permission(inode, X_OK, task.cred)
        inode.check_open(False)
        fsnotify(dentry, IN_OPEN)
        fsnotify(dentry, IN_ACCESS)
        return inode, os.fsdecode(dentry.label(self.root_of(task)))

    def usage(self, inode: Inode) -> tuple[int, int, int]:
        """statfs(2): the file system's magic number, its blocks of 4096 bytes, the free ones."""
        device = inode.stat().dev
        if device == HOST_DEVICE and isinstance(self.root.inode, HostDirectory):
            return EXT_MAGIC, *self.root.inode.space()
        total = self.ram.limit // BLOCK_SIZE
        free = (self.ram.limit - self.ram.used) // BLOCK_SIZE
        magic = OTHER_MAGIC.get(device, TMPFS_MAGIC)
        return (magic, 0, 0) if device in NO_BLOCKS else (magic, total, free)


def _host_calls(tape: Tape | None) -> HostCalls:
    if tape is None:
        return HostCalls()
    from sandbox.kernel.fs.tapedcalls import TapedCalls

    return TapedCalls(tape)


def read_all(inode: Inode) -> bytes:
    """The whole contents, for the kernel's own use (reading an executable's headers and symbols)."""
    return b"".join(inode.read_block(index) for index in range(-(-inode.size // BLOCK_SIZE)))
