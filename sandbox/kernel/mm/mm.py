"""An address space: ``mm_struct``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, cast

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.mm.mmap_lock import MmapLock
from sandbox.kernel.mm.rlimit import Limits
from sandbox.kernel.mm.vma import Vma
from sandbox.kernel.mm.vma_tree import VmaTree
from sandbox.kernel.vfs.inode import Inode
from sandbox.records import dataclass, field


@dataclass(slots=True, eq=False)
class Mm:
    """Tables by frame number, areas, and the places that exec laid out (linear addresses)."""

    pgd: int
    cr3: int
    vmas: VmaTree = field(default_factory=VmaTree)
    start_code: int = 0
    end_code: int = 0
    start_data: int = 0
    end_data: int = 0
    start_stack: int = 0
    users: int = 1
    cpu_mask: int = 0
    """Bit n: CPU n has this CR3 loaded, so it may hold translations."""
    flights: int = 0
    """Flushes of its pages that have begun and not ended: other CPUs may still use what they are about."""
    lock: MmapLock = field(default_factory=MmapLock)
    expedited: bool = False
    """It asked for membarrier(2)'s expedited commands."""
    minor_faults: int = 0
    rss: int = 0
    """Entries that name a frame other than the zero page's; ``entries`` keeps it."""
    read_implies_exec: bool = False
    """The program has no PT_GNU_STACK: whatever it maps readable is executable too."""
    exe: Inode | None = None
    """The file that it runs, which nobody may write meanwhile (ETXTBSY)."""

    arg_start: int = 0
    arg_end: int = 0
    env_start: int = 0
    env_end: int = 0
    """Where exec laid the strings of arguments and environment."""
    auxv: bytes = b""
    """The auxiliary vector that exec made."""
    vdso: int = 0
    """Linear address of the vDSO, 0 for a program that has no room for it."""
    ldt: int = 0
    """The first frame of the local descriptor table, 0 for none."""
    ldt_order: int = 0
    """It has 2^n frames in a row."""
    ldt_entries: int = 0

    def __post_init__(self) -> None:
        self.vmas.owner = self

    def set_areas(self, vmas: VmaTree) -> None:
        """Take a tree of areas in place of the present one, which is empty."""
        vmas.owner = self
        self.vmas = vmas

    def run_from(self, inode: Inode | None) -> None:
        """Take the file that the program is in, and let go of the one before.  Raises KernelError(ETXTBSY)."""
        if inode is not None:
            inode.deny_write()
        if self.exe is not None:
            self.exe.allow_write()
        self.exe = inode


class Process(Protocol):
    """A task, as far as memory management knows it."""

    pid: int
    mm: Mm | None
    cpu: KernelCpu
    scratch: int
    """Linear address of a lowmem page for data between Python and user memory."""

    @property
    def limits(self) -> Limits:
        """Resource limits."""
        ...


MmList = list[Mm]
"""Every address space that has tables, the oldest first; ``mmu_context`` keeps it."""


def active_mm(cpu: KernelCpu) -> Mm | None:
    """What a CPU has loaded, None for the kernel's own directory."""
    return cast("Mm | None", cpu.active_mm)


def mappings(inode: Inode) -> Iterator[tuple[Mm, Vma]]:
    """Every area that maps a file, with its address space (i_mmap)."""
    for tree in tuple(inode.i_mmap or ()):
        for vma in tree:
            if vma.inode is inode:
                yield tree.owner, vma
