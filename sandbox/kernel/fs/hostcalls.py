"""What is asked of the host's file system: the door between ``hostfs`` and the host, once open, once with a tape.

A host inode is named by a number: here the descriptor itself.  All raise OSError.
"""

from __future__ import annotations

import errno
import os
import resource
import stat as modes
from pathlib import Path
from typing import NamedTuple

from sandbox.kernel.abi.flags import DT_DIR, DT_FIFO, DT_LNK, DT_REG, DT_UNKNOWN, S_IFSOCK

FIND = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC
NAMELESS = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC


class HostStat(NamedTuple):
    """What stat(2) tells, as far as the guest is told; times in nanoseconds since 1970."""

    st_dev: int
    st_ino: int
    st_mode: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_rdev: int
    st_size: int
    st_blocks: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int


def open_host(path: str | bytes, flags: int, mode: int = 0o777, dir_fd: int | None = None) -> int:
    """os.open; when all descriptors are in use, the limit is raised as far as the host lets us."""
    try:
        return os.open(path, flags, mode, dir_fd=dir_fd)
    except OSError as error:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if error.errno != errno.EMFILE or soft == hard:
            raise
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return os.open(path, flags, mode, dir_fd=dir_fd)


class HostCalls:
    """The host itself."""

    def root(self, path: str, flags: int) -> int:
        """What the user names."""
        return os.open(path, flags | os.O_PATH | os.O_CLOEXEC)

    def open(self, name: bytes, flags: int, at: int) -> int:
        """A name in a directory; a new file gets mode 0600."""
        return open_host(name, flags, 0o600, dir_fd=at)

    def reopen(self, number: int, flags: int) -> int:
        """Another one for the same host inode."""
        return open_host(self._magic(number), flags | os.O_CLOEXEC | os.O_NOCTTY)

    def close(self, number: int) -> None:
        """It is not used any more."""
        os.close(number)

    def stat(self, number: int) -> HostStat:
        """Of an inode."""
        found = os.fstat(number)
        return HostStat(
            found.st_dev, found.st_ino, found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_rdev,
            found.st_size, found.st_blocks, found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns,
        )  # fmt: skip

    def size(self, number: int, reading: int) -> int:
        """Of a file, in bytes.  ``reading`` reads it, at positions that are named, or is -1: its end is told sooner."""
        return os.lseek(reading, 0, os.SEEK_END) if reading >= 0 else os.fstat(number).st_size

    def entries(self, number: int) -> list[tuple[bytes, int, int]]:
        """Names of a directory, sorted, with inode number and DT_*."""
        descriptor = open_host(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=number)
        try:
            with os.scandir(descriptor) as listing:
                found = sorted(listing, key=lambda each: each.name)
                return [(os.fsencode(each.name), each.inode(), _kind_of(each)) for each in found]
        finally:
            os.close(descriptor)

    def space(self, number: int) -> tuple[int, int]:
        """Bytes of a file system, and of these free for a user."""
        found = os.statvfs(self._magic(number))
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize

    def users(self) -> tuple[int, int]:
        """Our own uid and gid."""
        return os.geteuid(), os.getegid()

    def device_of_proc(self) -> int:
        """The host's /proc, -1 where there is none."""
        try:
            return Path("/proc/self").stat().st_dev
        except OSError:
            return -1

    def read(self, number: int, size: int, at: int) -> bytes:
        """Contents."""
        return os.pread(number, size, at)

    def target(self, number: int) -> bytes:
        """The text of a link."""
        return os.readlink(b"", dir_fd=number)

    def write(self, number: int, data: bytes, at: int) -> None:
        """All of it."""
        left = memoryview(data)
        while left:
            done = os.pwrite(number, left, at)
            at += done
            left = left[done:]

    def truncate(self, number: int, size: int) -> None:
        """Set the size."""
        os.ftruncate(number, size)

    def chmod(self, number: int, mode: int) -> None:
        """Set the mode."""
        Path(self._magic(number)).chmod(mode)

    def utime(self, number: int, atime: int, mtime: int) -> None:
        """Set the times."""
        os.utime(self._magic(number), ns=(atime, mtime))

    def mkdir(self, name: bytes, at: int) -> None:
        """A directory, mode 0700."""
        os.mkdir(name, 0o700, dir_fd=at)

    def symlink(self, name: bytes, at: int, target: bytes) -> None:
        """A link."""
        os.symlink(target, name, dir_fd=at)

    def fifo(self, name: bytes, at: int) -> None:
        """A FIFO, mode 0600."""
        os.mkfifo(name, 0o600, dir_fd=at)

    def socket(self, name: bytes, at: int) -> None:
        """A socket's name, mode 0600."""
        os.mknod(name, S_IFSOCK | 0o600, dir_fd=at)

    def link(self, number: int, name: bytes, at: int) -> None:
        """Another name of an inode."""
        os.link(self._magic(number).encode(), name, dst_dir_fd=at, follow_symlinks=True)

    def unlink(self, name: bytes, at: int) -> None:
        """A name goes."""
        os.unlink(name, dir_fd=at)

    def rmdir(self, name: bytes, at: int) -> None:
        """A directory goes."""
        os.rmdir(name, dir_fd=at)

    def rename(self, name: bytes, at: int, new: bytes, to: int) -> None:
        """A name becomes another one."""
        os.rename(name, new, src_dir_fd=at, dst_dir_fd=to)

    @staticmethod
    def _magic(number: int) -> str:
        """A path of the host to this very inode, which no change of names can divert."""
        return f"/proc/self/fd/{number}"


def _kind_of(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return DT_LNK
    if entry.is_dir(follow_symlinks=False):
        return DT_DIR
    if entry.is_file(follow_symlinks=False):
        return DT_REG
    try:
        return DT_FIFO if modes.S_ISFIFO(entry.stat(follow_symlinks=False).st_mode) else DT_UNKNOWN
    except OSError:
        return DT_UNKNOWN
