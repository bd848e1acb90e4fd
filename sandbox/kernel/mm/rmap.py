"""From a page of a file to the entries that map it, by the areas that map the file (i_mmap; 2.6's object rmap)."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox.kernel.mm.mm import Mm, mappings
from sandbox.kernel.mm.pgtable import PageTables
from sandbox.kernel.mm.pte import is_mapped
from sandbox.kernel.mm.vma import Vma
from sandbox.kernel.vfs.inode import Inode
from sandbox.x86.paging import PAGE_SIZE

Place = tuple[Mm, int, int]
"""An address space, the linear address of a page in it, and the place of its entry."""


def file_places(tables: PageTables, inode: Inode | None, index: int, pfn: int) -> Iterator[tuple[Place, Vma]]:
    """The entries of page ``index`` of a file that name its frame in the cache, and their areas."""
    for mm, vma in mappings(inode) if inode is not None else ():
        linear = vma.start + (index - vma.pgoff) * PAGE_SIZE
        if vma.start <= linear < vma.end:
            entry = tables.lookup_pte(mm.pgd, linear)
            if is_mapped(entry) and tables.pte_pfn(entry) == pfn:
                yield (mm, linear, tables.pte_alloc(mm.pgd, linear)), vma
