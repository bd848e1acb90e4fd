"""Inodes without blocks: reading and writing them are calls.  The memory devices of /dev are here."""

from __future__ import annotations

import random

from sandbox.kernel.abi.errno import EINVAL, ENOSPC, KernelError
from sandbox.kernel.abi.flags import POLLIN, POLLOUT, S_IFCHR
from sandbox.kernel.abi.structs import Stat, makedev
from sandbox.kernel.vfs.inode import GUEST_GID, GUEST_UID, Inode

DEV_DEVICE = makedev(0, 5)
"""Where devices and standard streams are; the streams have the inode numbers 1 to 3."""
MAXIMUM_READ = 1 << 16
"""Bytes that one read of an endless device gives at most."""


class CharDevice(Inode):
    """A character device, or any other stream of bytes.  Data crosses as bytes: it is the device's DMA."""

    kind = S_IFCHR

    def __init__(self, ino: int, rdev: int, name: str) -> None:
        self.ino = ino
        self.rdev = rdev
        self.name = name
        self.mode = 0o666
        self.uid, self.gid = GUEST_UID, GUEST_GID

    def stat(self) -> Stat:
        return Stat(
            dev=DEV_DEVICE,
            ino=self.ino,
            mode=self.kind | self.mode,
            uid=self.uid,
            gid=self.gid,
            rdev=self.rdev,
        )

    def chmod(self, mode: int) -> None:
        self.mode = mode & 0o7777

    def chown(self, uid: int | None, gid: int | None) -> None:
        self.uid = self.uid if uid is None else uid
        self.gid = self.gid if gid is None else gid

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        """A device's times are not kept."""

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, waiting for the first; nothing at the end."""
        raise KernelError(EINVAL)

    def write(self, data: bytes) -> int:
        """Bytes taken."""
        raise KernelError(EINVAL)

    def poll(self) -> int:
        """POLL* bits: what would not wait now."""
        return POLLIN | POLLOUT

    def truncate(self, size: int) -> None:
        """O_TRUNC has no effect on a device."""


class NullDevice(CharDevice):
    """/dev/null."""

    seeks_nowhere = True

    def read(self, size: int) -> bytes:
        return b""

    def write(self, data: bytes) -> int:
        return len(data)


class ZeroDevice(NullDevice):
    """/dev/zero."""

    def read(self, size: int) -> bytes:
        return bytes(min(size, MAXIMUM_READ))


class FullDevice(ZeroDevice):
    """/dev/full."""

    def write(self, data: bytes) -> int:
        raise KernelError(ENOSPC)


class RandomDevice(NullDevice):
    """/dev/urandom, the same sequence for the same seed: no secrets are made here."""

    def __init__(self, ino: int, rdev: int, name: str, seed: int = 0) -> None:
        super().__init__(ino, rdev, name)
        self._random = random.Random(seed)

    def read(self, size: int) -> bytes:
        return self._random.randbytes(min(size, MAXIMUM_READ))


def memory_devices(seed: int = 0) -> dict[bytes, CharDevice]:
    """The devices that any program may expect in /dev, by name."""
    return {
        b"null": NullDevice(13, makedev(1, 3), "/dev/null"),
        b"zero": ZeroDevice(15, makedev(1, 5), "/dev/zero"),
        b"full": FullDevice(17, makedev(1, 7), "/dev/full"),
        b"random": RandomDevice(18, makedev(1, 8), "/dev/random", seed),
        b"urandom": RandomDevice(19, makedev(1, 9), "/dev/urandom", seed),
    }
