"""Advisory locks: byte ranges of fcntl(2), for a process or for an open file, and whole files of flock(2)."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.base.wait import WaitQueue
from sandbox.records import dataclass, replace

F_RDLCK, F_WRLCK, F_UNLCK = range(3)
LAST_BYTE = (1 << 63) - 1


@dataclass(slots=True, frozen=True)
class Lock:
    """Bytes ``start`` to ``end``, both included; ``owner`` is whoever may change it, ``pid`` -1 for an open file's."""

    kind: int
    start: int
    end: int
    owner: object
    pid: int

    def overlaps(self, other: Lock) -> bool:
        return self.start <= other.end and other.start <= self.end


class LockList:
    """The locks of one inode.  ``wake`` is called with ``freed`` whenever a lock becomes weaker."""

    def __init__(self, wake: Callable[[WaitQueue], None]) -> None:
        self.freed = WaitQueue("file lock")
        self._locks: list[Lock] = []
        self._wake = wake

    def __len__(self) -> int:
        return len(self._locks)

    def conflict(self, wanted: Lock) -> Lock | None:
        """The first lock of somebody else that forbids ``wanted``."""
        for lock in sorted(self._locks, key=lambda lock: lock.start):
            if lock.owner is not wanted.owner and lock.overlaps(wanted) and F_WRLCK in (lock.kind, wanted.kind):
                return lock
        return None

    def apply(self, change: Lock) -> None:
        """Lock or unlock a range: what the owner had there is replaced."""
        kept: list[Lock] = []
        for lock in self._locks:
            if lock.owner is not change.owner or not lock.overlaps(change):
                kept.append(lock)
                continue
            if lock.start < change.start:
                kept.append(replace(lock, end=change.start - 1))
            if lock.end > change.end:
                kept.append(replace(lock, start=change.end + 1))
        if change.kind != F_UNLCK:
            kept.append(change)
        self._locks = kept
        self._wake(self.freed)

    def release(self, owner: object) -> None:
        """Drop all of an owner's locks."""
        kept = [lock for lock in self._locks if lock.owner is not owner]
        if len(kept) != len(self._locks):
            self._locks = kept
            self._wake(self.freed)


@dataclass(slots=True)
class FileLocks:
    """All locks of an inode: those of fcntl and those of flock do not see each other."""

    ranges: LockList
    whole: LockList

    def closed(self, table: object) -> None:
        """A process closed a descriptor of the file."""
        self.ranges.release(table)

    def released(self, file: object) -> None:
        """An open file is gone."""
        self.ranges.release(file)
        self.whole.release(file)
