"""The ELF files that a process executes, and how far each lies from the addresses in it: its program, the interpreter,
shared libraries.  They are found by what is mapped executable; nothing of the dynamic linker's own lists is needed.
"""

from __future__ import annotations

from sandbox.image.elf import PF_X, ImageError, Segment, parse_executable
from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.vma import PROT_EXEC, Vma
from sandbox.kernel.vfs.inode import Inode
from sandbox.records import dataclass
from sandbox.x86.paging import PAGE_MASK, PAGE_SIZE


@dataclass(frozen=True, slots=True)
class Mapped:
    """One file: ``bias`` is added to its own addresses, its code lies from ``start`` up to ``end``, both linear."""

    inode: Inode
    bias: int
    start: int
    end: int


class MappedFiles:
    """Finds them, for anybody's address space; headers are read once."""

    def __init__(self) -> None:
        self._segments: dict[Inode, tuple[Segment, ...]] = {}

    def of(self, mm: Mm, program: Inode | None) -> list[Mapped]:
        """Each file once, the program first."""
        found: dict[tuple[Inode, int], Mapped] = {}
        for vma in mm.vmas:
            each = self.at(vma)
            if each is not None:
                found.setdefault((each.inode, each.bias), each)
        return sorted(found.values(), key=lambda each: (each.inode is not program, each.start))

    def at(self, vma: Vma) -> Mapped | None:
        """The file of an area of code."""
        if vma.inode is None or not vma.prot & PROT_EXEC:
            return None
        first = vma.pgoff * PAGE_SIZE
        for each in self._headers(vma.inode):
            begins = each.offset & PAGE_MASK
            if each.flags & PF_X and begins <= first < each.offset + each.filesz:
                bias = vma.start - first - ((each.vaddr & PAGE_MASK) - begins)
                return Mapped(vma.inode, bias, vma.start, vma.end)
        return None

    def _headers(self, inode: Inode) -> tuple[Segment, ...]:
        if inode not in self._segments:
            try:
                self._segments[inode] = parse_executable(inode.read_block(0), inode.name).segments
            except (ImageError, KernelError):
                self._segments[inode] = ()
        return self._segments[inode]
