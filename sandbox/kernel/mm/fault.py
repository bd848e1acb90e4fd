"""Page faults of user addresses: ``do_no_page``, ``do_anonymous_page``, ``do_wp_page``, stack growth.

Each function returns the resolution, whose value is the word that traces and manifests use.  Addresses are linear.
"""

from __future__ import annotations

from enum import StrEnum

from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.base.stats import Stats
from sandbox.kernel.mm.codecache import CodeCache
from sandbox.kernel.mm.entries import Entries
from sandbox.kernel.mm.filemap import PageCache
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.kernel.mm.highmem import Highmem
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.pgdat import PgDat
from sandbox.kernel.mm.pte import is_mapped, is_present, no_access
from sandbox.kernel.mm.rlimit import RLIMIT_STACK, Limits, may_expand
from sandbox.kernel.mm.vma import PROT_EXEC, PROT_READ, PROT_WRITE, VM_GROWSDOWN, VM_SHARED, Vma
from sandbox.kernel.vfs.inode import Inode
from sandbox.x86.masks import PF_INSTR, PF_PROT, PF_USER, PF_WRITE
from sandbox.x86.paging import NX, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, RW, US, A, D, P

STACK_SLACK = 65536 + 32 * 4
"""Bytes below ESP that an instruction may touch and still grow the stack (2.4: ENTER pushes that much)."""


class Resolution(StrEnum):
    """What became of a page fault."""

    ZERO_PAGE = "zero-page"
    DEMAND_ZERO = "demand-zero"
    FILE_READ = "file-read"
    FILE_PRIVATE = "file-private"
    COW_COPY = "cow-copy"
    COW_REUSE = "cow-reuse"
    SHARED_WRITE = "shared-write"
    STACK_GROWTH = "stack-growth"
    SPURIOUS = "spurious"
    VMALLOC_SYNC = "vmalloc-sync"
    FIXUP = "fixup"
    BAD_AREA = "sigsegv"
    BUS_ERROR = "sigbus"
    OOM_KILL = "oom-kill"


# A member is looked up by name in some hundred nanoseconds (3.11): the handlers have theirs beside them.
BAD_AREA, BUS_ERROR, SPURIOUS = Resolution.BAD_AREA, Resolution.BUS_ERROR, Resolution.SPURIOUS
DEMAND_ZERO, COW_COPY, FILE_READ = Resolution.DEMAND_ZERO, Resolution.COW_COPY, Resolution.FILE_READ
UNRESOLVED = (BAD_AREA, BUS_ERROR)
"""Nothing was brought in."""


_READABLE = P | US | A


class PageFaults:
    """The fault handlers, over the tables, the allocator and the page cache of one machine."""

    __slots__ = (
        "_broken_eof", "_broken_private", "_broken_reuse", "_broken_shared", "_code", "_entries", "_grows", "_highmem",
        "_install", "_memmap", "_nx", "_page_alloc", "_pagecache", "_races", "_stats", "_tables", "_unlimited",
        "_zero_page",
    )  # fmt: skip

    def __init__(
        self,
        entries: Entries,
        pgdat: PgDat,
        page_alloc: PageAllocator,
        highmem: Highmem,
        pagecache: PageCache,
        code: CodeCache,
        zero_page: int,
        stats: Stats,
        broken: Breakage,
    ) -> None:
        self._entries, self._tables, self._memmap = entries, entries.tables, pgdat.memmap
        self._page_alloc, self._highmem, self._pagecache = page_alloc, highmem, pagecache
        self._code, self._zero_page, self._stats = code, zero_page, stats
        self._nx, self._races, self._install = entries.tables.nx, entries.races, entries.install
        self._grows, self._unlimited = not broken("no-stack-growth"), broken("no-stack-limit")
        self._broken_eof, self._broken_private = broken("no-eof-check"), broken("no-file-private")
        self._broken_shared, self._broken_reuse = broken("no-shared"), broken("no-reuse")

    def mk_pte(self, vma: Vma, pfn: int, writable: bool) -> int:
        """The entry for a frame in an area: present, user, NX where the area is not executable.

        What the kernel forces in where the program may not write, or do anything, is no more open than the area
        (``maybe_mkwrite``).
        """
        prot = vma.prot
        executable, writable = prot & PROT_EXEC, writable and prot & PROT_WRITE != 0
        if executable or not self._code.alone:
            self._code.mapped(pfn, executable != 0, writable)
        entry = pfn << PAGE_SHIFT | _READABLE | (RW if writable else 0) | (0 if executable else self._nx)
        return entry if prot else no_access(entry)

    def do_page_fault(
        self,
        cpu: KernelCpu,
        mm: Mm,
        address: int,
        error_code: int,
        esp: int,
        limits: Limits,
        way: KernelCpu | None = None,
    ) -> Resolution:
        """Resolve a fault at a user address, whoever touched it; one of UNRESOLVED when there is nothing to resolve.

        ``limits`` are those of the process that faults.  ``way`` is its CPU where it goes straight back to ring 3, and
        may fill a page on the way.  Raises OutOfMemory.
        """
        lock = mm.lock
        if lock.writer is not None:
            lock.wait_for_writer()
        lock.readers += 1
        try:
            vma = mm.vmas.find(address)
            if vma is None:
                return BAD_AREA
            grown = False
            if address < vma.start:
                if not vma.flags & VM_GROWSDOWN or (error_code & PF_USER and address + STACK_SLACK < esp):
                    return BAD_AREA
                if not self._grows or not self.expand_stack(mm, vma, address, limits):
                    return BAD_AREA
                grown = True
            write = bool(error_code & PF_WRITE)
            # A fetch of a page that is not there counts as a read, as on Linux: with NX it faults again when it is.
            fetch = error_code & PF_INSTR and error_code & PF_PROT
            needed = PROT_WRITE if write else PROT_EXEC if fetch else PROT_READ | PROT_EXEC | PROT_WRITE
            if not vma.prot & needed:
                return BAD_AREA
            how = self.handle_mm_fault(cpu, mm, vma, address, write, way)
            return Resolution.STACK_GROWTH if grown and how is not BUS_ERROR else how
        finally:
            lock.readers -= 1
            if lock.queue.tasks:
                lock.wake()

    def expand_stack(self, mm: Mm, vma: Vma, address: int, limits: Limits) -> bool:
        """Grow an area down to an address if RLIMIT_STACK, RLIMIT_AS and its neighbours allow it."""
        if self._unlimited:
            return mm.vmas.expand(vma, address, TASK_SIZE)
        pages = (vma.start - (address & PAGE_MASK)) // PAGE_SIZE
        if not may_expand(limits, mm.vmas, pages, vma.prot, vma.flags):
            return False
        return mm.vmas.expand(vma, address, limits[RLIMIT_STACK][0])

    def handle_mm_fault(
        self, cpu: KernelCpu, mm: Mm, vma: Vma, address: int, write: bool, way: KernelCpu | None = None
    ) -> Resolution:
        """Bring the page of an address in, or break its sharing.

        The table comes first: when there is no frame for it, no page is left without an owner.  Raises OutOfMemory.
        """
        page = address & PAGE_MASK
        tables = self._tables
        ptep = tables.pte_alloc(mm.pgd, page)
        pte = tables.read(ptep)
        if write and vma.anon_vma is None and not vma.shared:
            mm.vmas.anon_vma_prepare(vma)
        if not is_present(pte):
            if pte:
                return self._not_present(cpu, mm, vma, page, ptep, pte)
            mm.minor_faults += 1
            if vma.inode is None:
                return self.do_anonymous_page(mm, vma, ptep, write, way)
            return self.do_no_page(cpu, mm, vma, vma.inode, page, ptep, write)
        if write and not pte & RW:
            return self.do_wp_page(cpu, mm, vma, page, ptep, pte, way)
        self._entries.tlb.flush_tlb_page(cpu, mm, page)
        return SPURIOUS

    def _not_present(self, cpu: KernelCpu, mm: Mm, vma: Vma, page: int, ptep: int, pte: int) -> Resolution:
        """A page that is somewhere, in an area that allows the access: one that is moved comes back by itself.

        One of PROT_NONE is written by who may force it (``gup``), and by nobody else.
        """
        if is_mapped(pte):
            return self.do_wp_page(cpu, mm, vma, page, ptep, pte)
        if self._entries.unsettled(ptep, pte):
            self._entries.settled(ptep)
        else:
            self._entries.swap.do_swap_page(cpu, mm, page, vma.prot, ptep, pte)
        return SPURIOUS

    def do_no_page(
        self, cpu: KernelCpu, mm: Mm, vma: Vma, inode: Inode, page: int, ptep: int, write: bool
    ) -> Resolution:
        """A page of a file: the page cache's frame, or for a private write a copy of it at once."""
        index = vma.page_of(page)
        if index * PAGE_SIZE >= (inode.size + PAGE_SIZE - 1) & PAGE_MASK and not self._broken_eof:
            return BUS_ERROR
        try:
            pfn = self._pagecache.find_page(inode, index)
        except KernelError:
            return BUS_ERROR
        shared = vma.shared and not self._broken_shared
        if write and not shared and not self._broken_private:
            mine = self._frame_beside(pfn)
            try:
                self._highmem.copy_highpage(cpu, mine, pfn)
            except BaseException:
                self._page_alloc.put_page(mine)
                raise
            finally:
                self._page_alloc.put_page(pfn)
            pte = self.mk_pte(vma, mine, True) | D
            done = Resolution.FILE_PRIVATE
        else:
            self._memmap.get_page(pfn)
            writable = write or (shared and bool(vma.prot & PROT_WRITE))
            pte = self.mk_pte(vma, pfn, writable)
            done = FILE_READ
        if not self._install(mm, ptep, pte):
            return self._too_late(pte)
        if self._races.active and self._pagecache.cached(inode, index) != pfn:
            return self._cut_off(cpu, mm, page, ptep, pte)
        return done

    def _cut_off(self, cpu: KernelCpu, mm: Mm, page: int, ptep: int, pte: int) -> Resolution:
        """The file was cut between find_page and the entry, which goes again (2.6 asks for the page's mapping)."""
        gather, pfn = self._entries.gather(cpu, mm), self._tables.pte_pfn(pte)
        gone = gather.remove_page(page, ptep, pfn)
        gather.finish()
        if gone:
            self._page_alloc.put_page(pfn)
        return SPURIOUS

    def _too_late(self, pte: int) -> Resolution:
        """Somebody else has brought a page in meanwhile: this one is not needed."""
        self._page_alloc.put_page(self._tables.pte_pfn(pte))
        return SPURIOUS

    def do_anonymous_page(self, mm: Mm, vma: Vma, ptep: int, write: bool, way: KernelCpu | None = None) -> Resolution:
        """A read maps the shared zero page; a write gets a frame, highmem first, cleared by the CPU.

        On the ``way`` out the entry is there before the zeros: whoever could look at the page has them made first
        (``KernelCpu.finish``).
        """
        if not write:
            pte = self.mk_pte(vma, self._zero_page, False)
            return Resolution.ZERO_PAGE if self._install(mm, ptep, pte) else self._too_late(pte)
        pfn = self._page_alloc.alloc_page(GFP_HIGHUSER)
        try:
            self._highmem.clear_user_highpage(pfn, way)
        except BaseException:  # its kernel address may need a table
            self._page_alloc.put_page(pfn)
            raise
        pte = self.mk_pte(vma, pfn, True) | D
        return DEMAND_ZERO if self._install(mm, ptep, pte) else self._too_late(pte)

    def do_wp_page(
        self, cpu: KernelCpu, mm: Mm, vma: Vma, page: int, ptep: int, pte: int, way: KernelCpu | None = None
    ) -> Resolution:
        """A write to a page that is mapped read-only in a writable area: the sole owner keeps it, others copy.

        The old frame is released after the flush (MM 11).  An entry that changed while the page was copied is left as
        it is: the access is made again (2.4's pte_same).
        """
        memmap = self._memmap
        old = self._tables.pte_pfn(pte)
        if vma.flags & VM_SHARED and not self._broken_shared:
            changed = self._make_writable(cpu, mm, page, ptep, pte, pte | RW | A)
            return Resolution.SHARED_WRITE if changed else SPURIOUS
        if memmap.count(old) == 1 and not memmap.reserved(old) and not self._broken_reuse:
            opened = RW if vma.prot & PROT_WRITE else 0
            if not self._make_writable(cpu, mm, page, ptep, pte, pte | opened | D | A):
                return SPURIOUS
            self._stats.cow_reuses += 1
            return Resolution.COW_REUSE
        if way is not None and self._entries.alone(way, mm) and (mine := self._page_alloc.page_at_hand(way.index)):
            return self._copy_on_return(way, mm, vma, page, ptep, pte, mine)
        new = self._frame_beside(old)
        if self._tables.read(ptep) != pte:
            self._page_alloc.put_page(old)
            self._page_alloc.put_page(new)
            return SPURIOUS
        try:
            how = self._fill_cow_page(cpu, mm, page, new, pte)
        except BaseException:
            self._page_alloc.put_page(new)
            raise
        finally:
            self._page_alloc.put_page(old)
        if self._entries.replace(cpu, mm, page, ptep, pte, self.mk_pte(vma, new, True) | D):
            return how
        self._page_alloc.put_page(new)
        return SPURIOUS

    def _copy_on_return(self, way: KernelCpu, mm: Mm, vma: Vma, page: int, ptep: int, pte: int, new: int) -> Resolution:
        """``_fill_cow_page`` and ``replace`` in one routine, which runs with the program's next instruction.

        Nobody comes between what was read and here: nothing was reclaimed.
        """
        entry, zeros = self.mk_pte(vma, new, True) | D, self._tables.pte_pfn(pte) == self._zero_page
        self._entries.replace_on_return(way, mm, page, ptep, pte, entry, zeros)
        self._stats.bytes_by_guest += PAGE_SIZE
        if zeros:
            return DEMAND_ZERO
        self._stats.cow_copies += 1
        return COW_COPY

    def _make_writable(self, cpu: KernelCpu, mm: Mm, page: int, ptep: int, pte: int, new: int) -> bool:
        self._code.mapped(self._tables.pte_pfn(pte), not pte & NX, True)
        return self._entries.change(cpu, mm, page, ptep, pte, new)

    def _frame_beside(self, pfn: int) -> int:
        """A frame to copy another into, on which a reference is held from here on, lest reclaim take it.

        Raises OutOfMemory, without the reference.
        """
        self._memmap.get_page(pfn)
        try:
            return self._page_alloc.alloc_page(GFP_HIGHUSER)
        except BaseException:
            self._page_alloc.put_page(pfn)
            raise

    def _fill_cow_page(self, cpu: KernelCpu, mm: Mm, page: int, new: int, pte: int) -> Resolution:
        """Post 001 (Tweedie): out of the faulting process's own mapping, where that is loaded and can be read; zeros
        are made anew."""
        zeros = self._tables.pte_pfn(pte) == self._zero_page
        if zeros:
            self._highmem.clear_user_highpage(new)
        else:
            self._copy_cow_page(cpu, mm, page, new, pte)
        if self._races.active:
            self._races.point("wp")
        return DEMAND_ZERO if zeros else COW_COPY

    def _copy_cow_page(self, cpu: KernelCpu, mm: Mm, page: int, new: int, pte: int) -> None:
        if cpu.active_mm is mm and is_present(pte):
            self._highmem.copy_user_highpage(cpu, new, page)
        else:
            self._highmem.copy_highpage(cpu, new, self._tables.pte_pfn(pte))
        self._stats.cow_copies += 1
