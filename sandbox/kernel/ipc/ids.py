"""System V IPC: objects by identifier and by key, and the owner and mode that each has."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Generic, TypeVar

from sandbox.kernel.abi.errno import EEXIST, EINVAL, ENOENT, KernelError
from sandbox.records import dataclass

IPC_CREAT, IPC_EXCL, IPC_NOWAIT = 0o1000, 0o2000, 0o4000
IPC_PRIVATE = 0


@dataclass(slots=True, eq=False)
class Perm:
    """``struct ipc64_perm``; everybody is root where modes would count."""

    key: int
    mode: int
    ident: int = -1
    uid: int = 0
    gid: int = 0

    def pack(self) -> bytes:
        """36 bytes."""
        return struct.pack("<5I4H2I", self.key, self.uid, self.gid, 0, 0, self.mode, 0, 0, 0, 0, 0)

    def set(self, data: bytes) -> None:
        """What IPC_SET may change."""
        _, self.uid, self.gid, _, _, mode = struct.unpack_from("<5IH", data)
        self.mode = self.mode & ~0o777 | mode & 0o777


class Object:
    """What an identifier stands for."""

    def __init__(self, perm: Perm) -> None:
        self.perm = perm
        self.removed = False


T = TypeVar("T", bound=Object)


class IpcIds(Generic[T]):
    """The objects of one kind; an identifier is never used again."""

    def __init__(self) -> None:
        self._by_id: dict[int, T] = {}
        self._by_key: dict[int, T] = {}
        self._made = 0

    def get(self, key: int, flags: int, make: Callable[[Perm], T], check: Callable[[T], None]) -> int:
        """``ipcget``: the identifier of the object that has the key, or of a new one.

        Raises KernelError: ENOENT, EEXIST, and what ``make`` and ``check`` raise.
        """
        found = self._by_key.get(key) if key != IPC_PRIVATE else None
        if found is not None:
            if flags & IPC_CREAT and flags & IPC_EXCL:
                raise KernelError(EEXIST)
            check(found)
            return found.perm.ident
        if key != IPC_PRIVATE and not flags & IPC_CREAT:
            raise KernelError(ENOENT)
        made = make(Perm(key, flags & 0o777, self._made))
        self._made += 1
        self._by_id[made.perm.ident] = made
        if key != IPC_PRIVATE:
            self._by_key[key] = made
        return made.perm.ident

    def find(self, ident: int) -> T:
        """Raises KernelError(EINVAL)."""
        found = self._by_id.get(ident)
        if found is None:
            raise KernelError(EINVAL)
        return found

    def hide(self, found: T) -> None:
        """Nobody finds it by its key any more."""
        if self._by_key.get(found.perm.key) is found:
            del self._by_key[found.perm.key]

    def remove(self, found: T) -> None:
        """Forget it."""
        self.hide(found)
        found.removed = True
        self._by_id.pop(found.perm.ident, None)
