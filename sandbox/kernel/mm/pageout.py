"""Reclaim of file pages that programs have mapped: entries are cleared, what was stored goes to the file (MM 9, MM 10).

A page whose accessed bit is set gets a second chance: the bit is cleared and the page goes behind the others.  Locked
areas, and pages that somebody holds beside their entries (a copy that is under way), are left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.mm.entries import Entries, Gather
from sandbox.kernel.mm.filemap import AddressSpace, PageCache
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.mmu_context import MmuContext
from sandbox.kernel.mm.mmzone import Zone
from sandbox.kernel.mm.page import PG_LOCKED
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.pgdat import PgDat
from sandbox.kernel.mm.pte import is_mapped
from sandbox.kernel.mm.rmap import Place, file_places
from sandbox.kernel.mm.vma import VM_LOCKED
from sandbox.kernel.mm.vmscan import Need
from sandbox.x86.paging import A, D

MINIMUM_PERCENT = 2
"""2.2's page_cache.min_percent: share of all frames."""
MappedPage = tuple[AddressSpace, int, int]
"""The pages of a file, the index of one, its frame."""


class _Gathers:
    """One gather for each address space that is met; none of them ends before ``finish``, whoever exits meanwhile."""

    __slots__ = ("_entries", "_mmu", "_smp", "found")

    def __init__(self, entries: Entries, mmu: MmuContext, smp: Smp) -> None:
        self._entries, self._mmu, self._smp = entries, mmu, smp
        self.found: dict[int, tuple[Mm, Gather]] = {}

    def of(self, mm: Mm) -> Gather:
        if mm.pgd not in self.found:
            mm.users += 1
            self.found[mm.pgd] = mm, self._entries.gather(self._smp.this_cpu, mm)
        return self.found[mm.pgd][1]

    def flush(self) -> None:
        for _, gather in self.found.values():
            gather.flush()

    def finish(self) -> None:
        for mm, gather in self.found.values():
            gather.finish()
            self._mmu.mmput(self._smp.this_cpu, mm)


class PageOut:
    """What the page cache itself cannot give up, because programs have it."""

    __slots__ = (
        "_broken_write", "_entries", "_memmap", "_mmu", "_page_alloc", "_pagecache", "_pgdat", "_smp", "_tables",
    )  # fmt: skip

    def __init__(
        self,
        entries: Entries,
        mmu: MmuContext,
        smp: Smp,
        pgdat: PgDat,
        page_alloc: PageAllocator,
        pagecache: PageCache,
        broken: Breakage,
    ) -> None:
        self._entries, self._tables, self._mmu, self._smp = entries, entries.tables, mmu, smp
        self._pgdat, self._memmap, self._page_alloc, self._pagecache = pgdat, pgdat.memmap, page_alloc, pagecache
        self._broken_write = broken("no-writeback")

    def shrink(self, need: Need) -> int:
        """Release mapped pages of files, as far as there are more than the cache's minimum; the number released."""
        spare = sum(len(space.pages) for space in self._pagecache.spaces()) - self._minimum
        if need.order:
            mapped_too = spare >= 1 << need.order
            return next(filter(None, (self._clear_block(need, zone, mapped_too) for zone in need.zones)), 0)
        freed, wanted = 0, min(need.frames, spare)
        for young_too in (False, True):
            if freed < wanted:
                freed += self._scan(need, wanted - freed, young_too)
        return freed

    @property
    def _minimum(self) -> int:
        """Frames that the cache keeps, so that what runs is not taken from under the programs (2.2)."""
        return self._pgdat.total_frames * MINIMUM_PERCENT // 100

    # -- frames anywhere -----------------------------------------------------------------------------------------

    def _scan(self, need: Need, wanted: int, young_too: bool) -> int:
        """Once over all pages, until ``wanted`` were released; those in use grow old, unless they are taken too."""
        freed, aged = 0, _Gathers(self._entries, self._mmu, self._smp)
        for page in self._candidates(need):
            places = self._mapped(page)
            if places is None:
                continue
            if not young_too and self._make_old(places, aged):
                space, index, pfn = page
                del space.pages[index]
                space.pages[index] = pfn
            elif self._evict(page, places, need.may_write):
                freed += 1
                if freed >= wanted:
                    break
        aged.finish()
        return freed

    def _candidates(self, need: Need) -> Iterator[MappedPage]:
        """The cached pages of the zones that are needed, the oldest of each file first."""
        flags = self._memmap.flags
        for space in self._pagecache.spaces():
            for index, pfn in list(space.pages.items()):
                if need.suits(flags(pfn)):
                    yield space, index, pfn

    def _mapped(self, page: MappedPage) -> list[Place] | None:
        """The entries of a page that nobody holds but them and the cache; None for one that must stay."""
        space, index, pfn = page
        places = []
        for place, vma in file_places(self._tables, space.inode(), index, pfn):
            if vma.flags & VM_LOCKED:
                return None
            places.append(place)
        if self._memmap.flags(pfn) & PG_LOCKED:
            return None
        return places if self._memmap.count(pfn) == 1 + len(places) else None

    def _make_old(self, places: list[Place], aged: _Gathers) -> bool:
        """Take the accessed bits; whether one was set.  The caller flushes."""
        young = False
        for mm, linear, ptep in places:
            if self._tables.read(ptep) & A:
                aged.of(mm).protect(linear, ptep, lambda entry: entry & ~A)
                young = True
        return young

    def _evict(self, page: MappedPage, places: list[Place], may_write: bool) -> bool:
        """Clear the entries, flush, look for dirty bits (2.4.22's order), write, release; False if it has to stay."""
        space, index, pfn = page
        if not may_write and any(self._tables.read(ptep) & D for _, _, ptep in places):
            return False
        gathers = _Gathers(self._entries, self._mmu, self._smp)
        removed = [gathers.of(mm).remove_page(linear, ptep, pfn) for mm, linear, ptep in places]
        gathers.flush()
        stays = any(entry & D for entry in removed) and not self._written(page)
        for (mm, _, ptep), entry in zip(places, removed, strict=True):
            if is_mapped(entry) and not (stays and self._entries.install(mm, ptep, entry)):
                self._page_alloc.put_page(pfn)
        gathers.finish()
        # While others were told to flush, somebody may have found the page in the cache.
        if stays or self._memmap.count(pfn) > 1:
            return False
        self._pagecache.forget(space, index)
        return True

    def _written(self, page: MappedPage) -> bool:
        """The page is in its file now; a file that takes nothing keeps it in memory."""
        space, index, _ = page
        inode = space.inode()
        try:
            if inode is not None and not self._broken_write:
                self._pagecache.write_out(inode, index)
        except KernelError:
            return False
        return True

    # -- frames in a row -----------------------------------------------------------------------------------------

    def _clear_block(self, need: Need, zone: Zone, mapped_too: bool) -> int:
        """Release the cached pages of one aligned block whose other frames are free; the number released.

        2.6.23's lumpy reclaim: pages whose going completes no block stay.
        """
        blocks: dict[int, dict[int, MappedPage]] = defaultdict(dict)
        for page in self._candidates(Need((zone,))):
            if mapped_too or self._memmap.count(page[2]) == 1:
                blocks[page[2] >> need.order << need.order][page[2]] = page
        for head, pages in sorted(blocks.items()):
            frames = range(head, head + (1 << need.order))
            if all(pfn in pages or zone.is_free(pfn) for pfn in frames):
                freed = self._release_all(list(pages.values()), need.may_write)
                if freed == len(pages):
                    return freed
        return 0

    def _release_all(self, pages: list[MappedPage], may_write: bool) -> int:
        """Release pages if all of them can go; the number released."""
        found = [(page, places) for page in pages if (places := self._mapped(page)) is not None]
        if len(found) < len(pages):
            return 0
        return sum(self._evict(page, places, may_write) for page, places in found)
