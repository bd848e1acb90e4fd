"""Inodes without blocks: reading and writing them are calls.  The memory devices of /dev are here."""

from __future__ import annotations

import random

from sandbox.kernel.abi.errno import EFAULT, EINVAL, ENOSPC, KernelError
from sandbox.kernel.abi.flags import POLLIN, POLLOUT, S_IFCHR
from sandbox.kernel.abi.structs import Stat, makedev
from sandbox.kernel.fs.namespace import DEV_DEVICE
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import GUEST_GID, GUEST_UID, Inode
from sandbox.kernel.vfs.operations import FileOperations, Pieces, Ready, normal
from sandbox.machine.memory import PhysicalMemory
from sandbox.x86.paging import PAGE_SIZE

MAXIMUM_READ = 1 << 16
"""Bytes that one read of an endless device gives at most."""


class ByteOperations(FileOperations):
    """What open files of devices do that give and take bytes: these cross by the device's DMA."""

    def __init__(self, memory: PhysicalMemory, uaccess: UserAccess) -> None:
        self._memory, self._uaccess = memory, uaccess

    def read(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        device, done = _device_of(file), 0
        while done < count and (not done or device.ready_mask() & POLLIN):
            try:
                data = device.read_bytes(min(count - done, PAGE_SIZE))
                if not data:
                    break
                moved = self._uaccess.put_device_bytes(task, address + done, data)
            except KernelError:
                if done:
                    break
                raise
            done += moved
            if moved < len(data) or task.pending:
                break
        return done

    def write(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        return self.writev(file, task, [(address, count)])

    def writev(self, file: File, task: Task, pieces: Pieces, position: int | None = None) -> int:
        device = _device_of(file)
        if device.looks_at_nothing:
            return device.write_bytes(bytes(sum(length for _, length in pieces)))
        data, left = self._uaccess.gather(task, pieces)
        if left and not data:
            raise KernelError(EFAULT)
        return device.write_bytes(data)

    def sendpage(self, file: File, task: Task, at: int | None, pfn: int, offset: int, size: int) -> int:
        if not _device_of(file).splices:
            raise KernelError(EINVAL)
        start = self._memory.host_index(pfn * PAGE_SIZE) + offset
        return _device_of(file).write_bytes(bytes(self._memory.bytes[start : start + size]))

    def poll(self, file: File, task: Task) -> Ready:
        return Ready(normal(_device_of(file).ready_mask()))

    def can_poll(self, file: File) -> bool:
        return _device_of(file).can_poll


def _device_of(file: File) -> CharDevice:
    assert isinstance(file.inode, CharDevice)
    return file.inode


class CharDevice(Inode):
    """A character device, or any other stream of bytes."""

    kind = S_IFCHR
    can_poll = True
    splices = True
    """It takes pages (splice(2), sendfile(2))."""
    looks_at_nothing = False
    """Bytes written to it are not even read from the program's memory."""

    def __init__(self, ino: int, rdev: int, name: str, f_op: FileOperations) -> None:
        self._f_op = f_op
        self.ino = ino
        self.rdev = rdev
        self.name = name
        self.mode = 0o666
        self.uid, self.gid = GUEST_UID, GUEST_GID

    def operations(self) -> FileOperations:
        return self._f_op

    def stat(self) -> Stat:
        return self.aged(
            Stat(
                dev=DEV_DEVICE,
                ino=self.ino,
                mode=self.kind | self.mode,
                uid=self.uid,
                gid=self.gid,
                rdev=self.rdev,
            )
        )

    def chmod(self, mode: int) -> None:
        self.mode = mode & 0o7777

    def chown(self, uid: int | None, gid: int | None) -> None:
        self.uid = self.uid if uid is None else uid
        self.gid = self.gid if gid is None else gid

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        """A device's times are not kept."""

    def read_bytes(self, size: int) -> bytes:
        """At most ``size`` bytes, waiting for the first; nothing at the end."""
        raise KernelError(EINVAL)

    def write_bytes(self, data: bytes) -> int:
        """Bytes taken."""
        raise KernelError(EINVAL)

    def ready_mask(self) -> int:
        """POLL* bits: what would not wait now."""
        return POLLIN | POLLOUT

    def truncate(self, size: int) -> None:
        """O_TRUNC has no effect on a device."""


class NullDevice(CharDevice):
    """/dev/null."""

    seeks_nowhere = True
    looks_at_nothing = True
    can_poll = False

    def read_bytes(self, size: int) -> bytes:
        return b""

    def write_bytes(self, data: bytes) -> int:
        return len(data)


class ZeroDevice(NullDevice):
    """/dev/zero."""

    def splice_read(self, position: int, count: int) -> bytes:
        return self.read_bytes(count)

    def read_bytes(self, size: int) -> bytes:
        return bytes(min(size, MAXIMUM_READ))


class FullDevice(ZeroDevice):
    """/dev/full."""

    splices = False

    def write_bytes(self, data: bytes) -> int:
        raise KernelError(ENOSPC)


class RandomDevice(NullDevice):
    """/dev/urandom, the same sequence for the same seed: no secrets are made here."""

    looks_at_nothing = False

    def __init__(self, ino: int, rdev: int, name: str, f_op: FileOperations, seed: int = 0) -> None:
        super().__init__(ino, rdev, name, f_op)
        self.can_poll = name == "/dev/random"
        self._random = random.Random(seed)

    def splice_read(self, position: int, count: int) -> bytes:
        return self.read_bytes(count)

    def read_bytes(self, size: int) -> bytes:
        return self._random.randbytes(min(size, MAXIMUM_READ))


def memory_devices(f_op: FileOperations, seed: int = 0) -> dict[bytes, Inode]:
    """The devices that any program may expect in /dev, by name."""
    return {
        b"null": NullDevice(13, makedev(1, 3), "/dev/null", f_op),
        b"zero": ZeroDevice(15, makedev(1, 5), "/dev/zero", f_op),
        b"full": FullDevice(17, makedev(1, 7), "/dev/full", f_op),
        b"random": RandomDevice(18, makedev(1, 8), "/dev/random", f_op, seed),
        b"urandom": RandomDevice(19, makedev(1, 9), "/dev/urandom", f_op, seed),
    }
