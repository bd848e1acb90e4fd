"""Reclaim of file pages that programs have mapped: entries are cleared, what was stored goes to the file (MM 9, MM 10).

A page whose accessed bit is set gets a second chance: the bit is cleared and the page goes behind the others.  Locked
areas, and pages that somebody holds beside their entries (a copy that is under way), are left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.arch.cpu import Smp
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.mm.filemap import AddressSpace, PageCache
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.mmzone import Zone
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.pgdat import PgDat
from sandbox.kernel.mm.pgtable import PageTables
from sandbox.kernel.mm.rmap import Place, file_places
from sandbox.kernel.mm.tlb import Tlb
from sandbox.kernel.mm.vma import VM_LOCKED
from sandbox.kernel.mm.vmscan import Need
from sandbox.x86.paging import A, D

MINIMUM_PERCENT = 2
"""2.2's page_cache.min_percent: share of all frames."""
MappedPage = tuple[AddressSpace, int, int]
"""The pages of a file, the index of one, its frame."""


class PageOut:
    """What the page cache itself cannot give up, because programs have it."""

    __slots__ = ("_broken_write", "_memmap", "_page_alloc", "_pagecache", "_pgdat", "_smp", "_tables", "_tlb")

    def __init__(
        self,
        tables: PageTables,
        tlb: Tlb,
        smp: Smp,
        pgdat: PgDat,
        page_alloc: PageAllocator,
        pagecache: PageCache,
        broken: Breakage,
    ) -> None:
        self._tables, self._tlb, self._smp = tables, tlb, smp
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
        freed, aged = 0, []
        for page in self._candidates(need):
            places = self._mapped(page)
            if places is None:
                continue
            if not young_too and self._make_old(places):
                space, index, pfn = page
                del space.pages[index]
                space.pages[index] = pfn
                aged.extend(places)
            elif self._evict(page, places, need.may_write):
                freed += 1
                if freed >= wanted:
                    break
        self._flush(aged)
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
        return places if self._memmap.count(pfn) == 1 + len(places) else None

    def _make_old(self, places: list[Place]) -> bool:
        """Take the accessed bits; whether one was set.  The caller flushes."""
        tables, young = self._tables, False
        for _, _, ptep in places:
            entry = tables.read(ptep)
            if entry & A:
                tables.set_pte(ptep, entry & ~A)
                young = True
        return young

    def _evict(self, page: MappedPage, places: list[Place], may_write: bool) -> bool:
        """Clear the entries, flush, look for dirty bits (2.4.22's order), write, release; False if it has to stay."""
        space, index, pfn = page
        tables = self._tables
        entries = [tables.read(ptep) for _, _, ptep in places]
        if any(entry & D for entry in entries) and not may_write:
            return False
        for _, _, ptep in places:
            tables.set_pte(ptep, 0)
        self._flush(places)
        if any(entry & D for entry in entries) and not self._written(page):
            for (_, _, ptep), entry in zip(places, entries, strict=True):
                tables.set_pte(ptep, entry)
            return False
        for _ in places:
            self._page_alloc.put_page(pfn)
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

    def _flush(self, places: Iterable[Place]) -> None:
        pages: dict[int, tuple[Mm, list[int]]] = {}
        for mm, linear, _ in places:
            pages.setdefault(id(mm), (mm, []))[1].append(linear)
        for mm, linears in pages.values():
            self._tlb.flush_tlb_pages(self._smp.this_cpu, mm, linears)

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
