"""The end of a thread that holds robust mutexes: each word of its list says so, and one who waits is woken.

The list is the program's (``struct robust_list_head``), so it is read with user accesses and trusted in nothing: it may
be circular, unmapped or somebody else's.  After kernel/futex/core.c, ``exit_robust_list`` and ``handle_futex_death``.
"""

from __future__ import annotations

from contextlib import suppress
from struct import unpack

from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.task.futex import FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS, Futexes
from sandbox.kernel.task.task import Task

ROBUST_LIST_LIMIT = 2048
"""Entries after which a list is taken for an endless one."""
HEAD_BYTES = 12
_PI = 1
"""Bit 0 of an entry's address: a mutex with priority inheritance, whose waiters wake themselves."""


def exit_robust_list(uaccess: UserAccess, futexes: Futexes, task: Task) -> None:
    """Walk the list of a thread that ends, as far as it can be read."""
    head = task.robust_list
    with suppress(KernelError):
        entry, offset, pending = unpack("<IiI", uaccess.get_user(task, head, HEAD_BYTES))
        _walk(uaccess, futexes, task, entry, offset, pending & ~_PI)
        if pending & ~_PI:
            _futex_death(uaccess, futexes, task, (pending & ~_PI) + offset & 0xFFFFFFFF, pending & _PI, True)


def _walk(uaccess: UserAccess, futexes: Futexes, task: Task, entry: int, offset: int, pending: int) -> None:
    """Raises KernelError(EFAULT): a list that cannot be read ends there, and the pending one is not looked at."""
    for _ in range(ROBUST_LIST_LIMIT):
        if entry & ~_PI == task.robust_list:
            return
        at, inherits = entry & ~_PI, entry & _PI
        try:
            entry = uaccess.get_word(task, at)
        finally:
            if at != pending:
                _futex_death(uaccess, futexes, task, at + offset & 0xFFFFFFFF, inherits, False)


def _futex_death(uaccess: UserAccess, futexes: Futexes, task: Task, address: int, inherits: int, pending: bool) -> None:
    """The word of one mutex.  Raises KernelError(EFAULT) where there is none."""
    value = futexes.load(task, address)
    if pending and not inherits and not value:  # it was unlocked, and who unlocked it has not woken anybody yet
        futexes.wake(futexes.key(task, address, False), 1)
        return
    while value & FUTEX_TID_MASK == task.pid:
        seen = uaccess.cmpxchg_user(task, address, value, value & FUTEX_WAITERS | FUTEX_OWNER_DIED)
        if seen == value:
            if value & FUTEX_WAITERS and not inherits:
                futexes.wake(futexes.key(task, address, False), 1)
            return
        value = seen
