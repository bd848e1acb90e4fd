"""Resource limits: what setrlimit(2) sets and memory calls ask."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EFBIG, KernelError
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.mm.vma import is_data
from sandbox.kernel.mm.vma_tree import VmaTree
from sandbox.x86.paging import PAGE_SIZE

RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_CORE = range(5)
RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_AS = 7, 8, 9
RLIMIT_SIGPENDING = 11
PENDING_SIGNALS = 1024
"""Signals that may wait for all processes of a user, unless setrlimit says otherwise."""
RLIMITS = 16
RLIM_INFINITY = (1 << 64) - 1
NR_OPEN = 1 << 20
"""The most that RLIMIT_NOFILE may be."""

Limits = list[tuple[int, int]]
"""(soft, hard) by number; one list belongs to one process."""


def default_limits(stack: int) -> Limits:
    """What the first task starts with; ``stack`` is its soft RLIMIT_STACK in bytes."""
    limits: Limits = [(RLIM_INFINITY, RLIM_INFINITY)] * RLIMITS
    limits[RLIMIT_STACK] = stack, RLIM_INFINITY
    limits[RLIMIT_CORE] = 0, RLIM_INFINITY
    limits[RLIMIT_NOFILE] = 1024, 4096
    limits[RLIMIT_SIGPENDING] = PENDING_SIGNALS, PENDING_SIGNALS
    return limits


class FileSizeExceeded(KernelError):
    """EFBIG by RLIMIT_FSIZE: whoever calls gets SIGXFSZ too."""

    def __init__(self) -> None:
        super().__init__(EFBIG)


def writable_room(limits: Limits, at: int, count: int) -> int:
    """The bytes of ``count`` that RLIMIT_FSIZE lets be written at a position.  Raises FileSizeExceeded."""
    largest = limits[RLIMIT_FSIZE][0]
    if largest == RLIM_INFINITY or not count:
        return count
    if at >= largest:
        raise FileSizeExceeded
    return min(count, largest - at)


def check_size(limits: Limits, now: int, size: int) -> None:
    """A file of ``now`` bytes may become ``size`` bytes large (inode_newsize_ok).  Raises FileSizeExceeded."""
    if size > now and size > limits[RLIMIT_FSIZE][0]:
        raise FileSizeExceeded


def may_expand(limits: Limits, vmas: VmaTree, pages: int, prot: int, flags: int) -> bool:
    """An address space may have so many pages more, by RLIMIT_AS and RLIMIT_DATA."""
    if vmas.pages + pages > limits[RLIMIT_AS][0] // PAGE_SIZE:
        return False
    data = limits[RLIMIT_DATA][0]
    if data >= TASK_SIZE or not is_data(prot, flags):
        return True
    return (vmas.data_pages + pages) * PAGE_SIZE <= data
