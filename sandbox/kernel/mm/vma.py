"""An area of linear addresses that a process has mapped: protection, flags, backing, and what it joins (VMA)."""

from __future__ import annotations

from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import Inode
from sandbox.records import dataclass, replace
from sandbox.x86.paging import PAGE_SIZE

MMAP_MIN_ADDR = 0x10000
STACK_GUARD_GAP = 256 * PAGE_SIZE
"""Bytes below a growing VMA that no new mapping may touch (Linux 4.12 and later)."""

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4

VM_SHARED = 0x8
"""Writes go to the inode; without it the mapping is private and copied on write."""
VM_MAYWRITE = 0x20
"""mprotect may add PROT_WRITE (a shared mapping of a file opened read-only has it not)."""
VM_GROWSDOWN = 0x100
VM_LOCKED = 0x2000
VM_IO = 0x4000
"""Maps device memory: never reclaimed, copied or dumped."""
VM_SEQ_READ, VM_RAND_READ = 0x8000, 0x10000
"""madvise said how it will be read."""
VM_DONTCOPY = 0x20000
"""A forked child does not have it."""
VM_NORESERVE = 0x200000
"""MAP_NORESERVE: kept, because areas with and without it are two."""
VM_NOHUGEPAGE = 0x40000000
"""MAP_STACK, since Linux 6.7."""
VM_DONTDUMP = 0x4000000
VM_WIPEONFORK = 0x2000000
"""A forked child finds it empty."""


def page_align(value: int) -> int:
    """The first multiple of 4096 that is not below ``value``."""
    return (value + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1)


def is_data(prot: int, flags: int) -> bool:
    """Private, writable and no stack: what RLIMIT_DATA counts (Linux 4.7 and later)."""
    return bool(prot & PROT_WRITE) and not flags & (VM_SHARED | VM_GROWSDOWN)


class AnonVma:
    """What areas with pages of their own have in common: one that has been one with another, or could have been."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class Vma:
    """Linear addresses [start, end) with one protection and one backing.

    ``prot`` is PROT_* bits, ``flags`` VM_* bits; ``pgoff`` is the page of ``inode`` or ``file`` that is at
    ``start``, and 0 for other anonymous memory.  Two VMAs are the same only if they are one object.
    """

    start: int
    end: int
    prot: int
    flags: int = 0
    inode: Inode | None = None
    pgoff: int = 0
    file: File | str | None = None
    """The open file through which it was mapped, or the path of a program: /proc names it, and areas of two opens
    never become one.  With it and no inode it is a private mapping of /dev/zero, which is anonymous memory."""
    anon_vma: AnonVma | None = None
    """None before a page of its own came in.  Two different ones keep areas apart."""
    inherited: bool = False
    """It was forked with such pages: parents may still map them, and it joins nothing that has none."""
    shift: int = 0
    """Pages by which mremap moved anonymous memory, whose pages keep their numbers."""

    def __post_init__(self) -> None:
        if (self.start | self.end) % PAGE_SIZE or not 0 <= self.start < self.end:
            raise ValueError(f"a VMA of {self.start:#x}-{self.end:#x}: not a range of whole pages")

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    @property
    def data_pages(self) -> int:
        """Pages that RLIMIT_DATA counts."""
        return self.size // PAGE_SIZE if is_data(self.prot, self.flags) else 0

    @property
    def shared(self) -> bool:
        return bool(self.flags & VM_SHARED)

    @property
    def floor(self) -> int:
        """The address down to which others keep away: ``start``, less the guard gap if the VMA grows."""
        return max(0, self.start - STACK_GUARD_GAP) if self.flags & VM_GROWSDOWN else self.start

    @property
    def counts(self) -> bool:
        """Its pages have numbers in a file."""
        return self.inode is not None or self.file is not None

    def page_of(self, linear: int) -> int:
        """The page index in ``inode`` that a linear address inside the VMA shows."""
        return self.pgoff + (linear - self.start) // PAGE_SIZE

    def piece(self, start: int, end: int) -> Vma:
        """A new VMA for a part of this one."""
        return replace(self, start=start, end=end, pgoff=self.page_of(start) if self.counts else 0)

    def continues(self, before: Vma) -> bool:
        """True if ``before`` and this VMA could be one: adjacent, alike, pages of the inode in sequence."""
        return (
            before.end == self.start
            and before.prot == self.prot
            and before.flags == self.flags
            and before.inode is self.inode
            and before.file is self.file
            and before.shift == self.shift
            and (not self.counts or before.page_of(self.start) == self.pgoff)
            and _anon_mergeable(before, self)
        )

    def could_share(self, above: Vma) -> bool:
        """But for its protection the area above continues this one (anon_vma_compatible)."""
        return (
            self.end == above.start
            and self.flags == above.flags
            and self.inode is above.inode
            and self.file is above.file
            and self.shift == above.shift
            and (not self.counts or self.page_of(above.start) == above.pgoff)
        )

    def describe(self) -> str:
        """One line as in /proc/PID/maps, without device and inode: ``08048000-08049000 r-xp 00000000``."""
        letters = "".join(letter if self.prot & bit else "-" for letter, bit in zip("rwx", (1, 2, 4), strict=True))
        name = "[stack]" if self.flags & VM_GROWSDOWN else self.inode.name if self.inode is not None else ""
        kind = "s" if self.shared else "p"
        return f"{self.start:08x}-{self.end:08x} {letters}{kind} {self.pgoff * PAGE_SIZE:08x} {name}".rstrip()


def _anon_mergeable(one: Vma, other: Vma) -> bool:
    """Linux's is_mergeable_anon_vma: one of the two has no pages of its own yet, or both belong together."""
    if one.anon_vma is None:
        return other.anon_vma is None or not other.inherited
    return one.anon_vma is other.anon_vma or (other.anon_vma is None and not one.inherited)
