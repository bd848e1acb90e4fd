"""System V shared memory: segments that outlive who made them, mapped like any shared memory."""

from __future__ import annotations

import struct

from sandbox.kernel.abi.errno import EINVAL, KernelError
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.base.time import SECOND, Clock
from sandbox.kernel.ipc.ids import IpcIds, Object, Perm
from sandbox.kernel.mm.filemap import SharedMemory
from sandbox.kernel.mm.mmap import MAP_FIXED, MAP_SHARED, Mmap
from sandbox.kernel.mm.vma import PROT_EXEC, PROT_READ, PROT_WRITE, page_align
from sandbox.kernel.task.task import Task
from sandbox.x86.paging import PAGE_SIZE

SHM_RDONLY, SHM_RND, SHM_REMAP, SHM_EXEC = 0o10000, 0o20000, 0o40000, 0o100000
SHM_DEST, SHM_LOCKED = 0o1000, 0o2000


class Segment(Object):
    """``size`` in bytes as it was asked for; the pages are those of ``memory``."""

    def __init__(self, perm: Perm, size: int, creator: int, now: int) -> None:
        super().__init__(perm)
        self.size, self.creator, self.last = size, creator, 0
        self.changed, self.attached_at, self.detached_at = now, 0, 0
        self.memory = SharedMemory(page_align(size))
        self.memory.name = f"/SYSV{perm.key:08x} (deleted)"

    @property
    def attached(self) -> int:
        """Areas that map it."""
        return sum((self.memory.i_mmap or {}).values())

    def pack(self) -> bytes:
        """``struct shmid64_ds``, 84 bytes."""
        times = (self.attached_at, 0, self.detached_at, 0, self.changed, 0)
        return self.perm.pack() + struct.pack(
            "<I6I3I2I", self.size, *times, self.creator, self.last, self.attached, 0, 0
        )


class SharedSegments(IpcIds[Segment]):
    """All segments of a machine."""

    def __init__(self, mmap: Mmap, clock: Clock) -> None:
        super().__init__()
        self._mmap, self._clock = mmap, clock

    def _seconds(self) -> int:
        return self._clock.nanoseconds // SECOND

    def shmget(self, task: Task, key: int, size: int, flags: int) -> int:
        def make(perm: Perm) -> Segment:
            if not 0 < size <= TASK_SIZE:
                raise KernelError(EINVAL)
            return Segment(perm, size, task.tgid, self._seconds())

        def check(found: Segment) -> None:
            if size > found.size:
                raise KernelError(EINVAL)

        return self.get(key, flags, make, check)

    def shmat(self, task: Task, ident: int, address: int, flags: int) -> int:
        """The linear address.  Raises KernelError: EINVAL, ENOMEM."""
        segment = self.find(ident)
        if flags & SHM_RND:
            address &= -PAGE_SIZE
        if address % PAGE_SIZE or (not address and flags & SHM_REMAP):
            raise KernelError(EINVAL)
        assert task.mm is not None
        if address and not flags & SHM_REMAP and task.mm.vmas.overlapping(address, address + segment.memory.size):
            raise KernelError(EINVAL)
        prot = PROT_READ | (0 if flags & SHM_RDONLY else PROT_WRITE) | (PROT_EXEC if flags & SHM_EXEC else 0)
        how = MAP_SHARED | (MAP_FIXED if address else 0)
        start = self._mmap.do_mmap(task, address, segment.size, prot, how, segment.memory, 0)
        segment.attached_at, segment.last = self._seconds(), task.tgid
        return start

    def shmdt(self, task: Task, address: int) -> int:
        """Unmap what one ``shmat`` mapped.  Raises KernelError(EINVAL)."""
        assert task.mm is not None
        first = task.mm.vmas.find_exact(address)
        segment = next((each for each in self._by_id.values() if first and first.inode is each.memory), None)
        if first is None or segment is None or first.start - first.pgoff * PAGE_SIZE != address:
            raise KernelError(EINVAL)
        for vma in task.mm.vmas.overlapping(address, address + segment.memory.size):
            if vma.inode is segment.memory and vma.start - vma.pgoff * PAGE_SIZE == address:
                self._mmap.do_munmap(task, vma.start, vma.size)
        segment.detached_at, segment.last = self._seconds(), task.tgid
        self.forget_unused()
        return 0

    def destroy(self, segment: Segment) -> None:
        """IPC_RMID: at once, or when the last area goes."""
        segment.perm.mode |= SHM_DEST
        self.hide(segment)
        segment.perm.key = 0
        self.forget_unused()

    def forget_unused(self) -> None:
        """Segments that were removed live while somebody maps them."""
        for segment in list(self._by_id.values()):
            if segment.perm.mode & SHM_DEST and not segment.attached:
                self.remove(segment)
