"""vmalloc: frames from anywhere, addresses in a row, and a page behind each area that is never there (MM 4).

Areas are entered in the kernel's own directory.  Other directories learn of them lazily, by the fault of the first
kernel access (Linux since 2.4.0-test10), or eagerly, when the area is made (before).  Under PAE all directories share
the kernel's second level, unless the policy ``kernel_pmd=process`` gives each its own, so that neither has anything to
do.  Tables that areas needed stay for the next ones: an entry that another directory has copied can never dangle.

Device memory (``ioremap.py``), modules and arrays of struct page lie in the same list.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.events import MapChange
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.base.layout import Layout
from sandbox.kernel.base.trace import Trace
from sandbox.kernel.base.wait import Waiting, WrongContext
from sandbox.kernel.mm.codecache import CodeCache
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.kernel.mm.highmem import Highmem
from sandbox.kernel.mm.kernel_entries import KernelEntries
from sandbox.kernel.mm.mm import MmList
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.pgdat import PgDat
from sandbox.kernel.mm.pte import is_present
from sandbox.kernel.mm.vmscan import Need
from sandbox.records import dataclass
from sandbox.x86.errors import SandboxError
from sandbox.x86.masks import PF_PROT, PF_USER
from sandbox.x86.paging import PAGE_SIZE, RW, A, D, P

GUARD = PAGE_SIZE
PROT_KERNEL, PROT_RUN = 3, 4


ANYBODYS = ("vmalloc", "vremap", "ioremap")
"""Kinds of areas that a module may free; modules, arrays of struct page and kernel stacks are the kernel's."""


class BadVfree(SandboxError):
    """vfree of an address that no area begins at (freed already, inside one, never vmalloc's), or of the kernel's."""

    exit_status = 3


@dataclass(frozen=True, slots=True)
class Area:
    """Linear addresses [start, end) and their frames in order; the guard page lies behind ``end``.

    ``owned`` frames go back to the allocator with the area; those of a device do not.
    """

    start: int
    end: int
    frames: tuple[int, ...]
    kind: str = "vmalloc"
    owned: bool = True
    cache_bits: int = 0
    """PCD and PWT of its entries."""


class Vmalloc:
    """The areas of one kernel, in order of their addresses."""

    def __init__(
        self,
        entries: KernelEntries,
        layout: Layout,
        smp: Smp,
        sched: Waiting,
        pgdat: PgDat,
        page_alloc: PageAllocator,
        highmem: Highmem,
        code: CodeCache,
        mmlist: MmList,
        zero_page: int,
        config: KernelConfig,
        trace: Trace,
    ) -> None:
        self._entries, self._tables, self._layout = entries, entries.tables, layout
        self._smp, self._sched = smp, sched
        self._pgdat, self._page_alloc, self._highmem = pgdat, page_alloc, highmem
        self._code, self._mmlist, self._zero_page = code, mmlist, zero_page
        self._bus, self._clock, self._log = trace.bus, trace.clock, trace.log
        self.areas: list[Area] = []
        self.synced = 0
        """Directory entries that faults have copied."""
        self.eager = config.policies["vmalloc_sync"] == "eager"
        """Other directories learn of an area when it is made."""
        broken = config.broken
        self._broken_sync, self._broken_guard = broken("no-vmalloc-sync"), broken("no-guard")
        self._early_free = broken("early-free")

    def vmalloc(self, size: int, kind: str = "vmalloc", executable: Sequence[bool] = ()) -> int:
        """Linear address of ``size`` bytes, rounded up to pages; 0 for none, too much, or when frames run out.

        The contents are what was left in the frames.  ``executable`` says so of single pages, for modules.  Raises
        WrongContext in an interrupt: page tables may have to be allocated.
        """
        if self._sched.in_atomic():
            raise WrongContext(f"vmalloc({size}) in an interrupt: it may sleep for frames and page tables")
        self._sched.check_sleep(f"vmalloc({size})")
        pages = -(-size // PAGE_SIZE)
        if not 0 < pages <= self._pgdat.total_frames:
            return 0
        at, start = self.get_vm_area(pages * PAGE_SIZE + GUARD)
        if not start:
            return 0
        frames: list[int] = []
        flags, nx = P | RW | A | D, self._tables.nx
        try:
            for number in range(pages):
                place = self._entries.place(start + number * PAGE_SIZE)
                pfn = self._page_alloc.alloc_page(GFP_HIGHUSER)
                frames.append(pfn)
                run = bool(executable) and executable[number]
                if run:
                    self._code.mapped(pfn, True, True)
                self._entries.map_at(place, self._tables.pfn_pte(pfn, flags | (0 if run else nx)))
        except OutOfMemory:
            self._unmap(start, frames, owned=True)
            return 0
        prot = PROT_KERNEL | (PROT_RUN if any(executable) else 0)
        self._enter(at, Area(start, start + pages * PAGE_SIZE, tuple(frames), kind), prot)
        return start

    def vmap_device(self, physical: int, size: int, kind: str, cache_bits: int = 0) -> int:
        """Map physical pages that nobody owns; linear address, 0 when addresses or tables run out.

        ``physical`` and ``size`` in whole pages.  Raises WrongContext in an interrupt.
        """
        if self._sched.in_atomic():
            raise WrongContext(f"{kind}({physical:#x}) in an interrupt: page tables may have to be allocated")
        self._sched.check_sleep(f"{kind}({physical:#x})")
        at, start = self.get_vm_area(size + GUARD)
        if not start:
            return 0
        flags = P | RW | A | D | self._tables.nx | cache_bits
        self._warn_of_alias(physical, size, cache_bits)
        frames = tuple(range(physical >> 12, physical + size >> 12))
        done: list[int] = []
        try:
            for number, pfn in enumerate(frames):
                self._entries.map_page(start + number * PAGE_SIZE, self._tables.pfn_pte(pfn, flags))
                done.append(pfn)
        except OutOfMemory:
            self._unmap(start, done, owned=False)
            return 0
        self._enter(at, Area(start, start + size, frames, kind, owned=False, cache_bits=cache_bits))
        return start

    def _warn_of_alias(self, physical: int, size: int, cache_bits: int) -> None:
        """One physical page, cached in one mapping and not in another: what a CPU does then is undefined."""
        for area in self.areas:
            if area.owned or area.cache_bits == cache_bits or not area.frames:
                continue
            first = area.frames[0] << 12
            if first < physical + size and physical < first + area.end - area.start:
                kinds = ("", "un") if area.cache_bits else ("un", "")
                self._log.printk(
                    f"{physical:#010x} is mapped {kinds[0]}cached here and {kinds[1]}cached at {area.start:#010x}\n"
                )

    def reserve(self, kind: str, size: int) -> tuple[int, tuple[int, ...]]:
        """An area of cleared frames that is never freed: linear address and frames.  Raises OutOfMemory."""
        start = self.vmalloc(size, kind)
        if not start:
            raise OutOfMemory(f"out of memory: no {size} bytes for {kind}", self._pgdat.report())
        area = self.find(start)
        assert area is not None
        for pfn in area.frames:
            self._highmem.clear_highpage(pfn)
        return start, area.frames

    def reserve_addresses(self, kind: str, size: int) -> int:
        """Linear address of a range without frames, kept for ever, whose tables every directory has.

        The caller stores the entries.  Raises OutOfMemory.
        """
        at, start = self.get_vm_area(size + GUARD)
        if not start:
            raise OutOfMemory(f"out of memory: no {size} bytes of kernel addresses for {kind}", self.report())
        for linear in range(start, start + size, PAGE_SIZE):
            self._entries.place(linear)
        self.sync_all(start, start + size)
        self._enter(at, Area(start, start + size, (), kind, owned=False))
        return start

    def vfree(self, address: int) -> None:
        """Give back what somebody asked for; 0 is nothing.  Raises BadVfree, and WrongContext in an interrupt."""
        if address:
            self.release(address, ANYBODYS)

    def release(self, address: int, kinds: Sequence[str]) -> None:
        """Give an area of certain kinds back.  Raises as ``vfree``."""
        if self._sched.in_atomic():
            raise WrongContext(f"vfree({address:#010x}) in an interrupt: other CPUs are told to flush")
        at = bisect_right(self.areas, address, key=lambda area: area.start) - 1
        area = self.areas[at] if at >= 0 else None
        if area is None or area.start != address:
            inside = f", inside the area {area.start:#010x}-{area.end:#010x}" if area and address < area.end else ""
            raise BadVfree(f"vfree({address:#010x}): no area begins there{inside}", self.report())
        if area.kind not in kinds:
            raise BadVfree(f"vfree({address:#010x}): a live area of the kernel's own ({area.kind})", self.report())
        del self.areas[at]
        self._unmap(area.start, list(area.frames), area.owned)
        if self._bus.active:
            self._bus.emit(
                MapChange(self._clock.now, self._smp.this_cpu.index, 0, f"{area.kind}-free", area.start, area.end, 0)
            )

    def lose_a_page(self, need: Need) -> int:
        """Breakage: a frame of an area is given up as if it were a program's."""
        for area in self.areas:
            if area.owned and area.kind == "vmalloc" and area.frames:
                self._page_alloc.put_page(area.frames[0])
                return 1
        return 0

    def find(self, address: int) -> Area | None:
        """The area that holds an address."""
        at = bisect_right(self.areas, address, key=lambda area: area.start) - 1
        return self.areas[at] if at >= 0 and address < self.areas[at].end else None

    def vmalloc_fault(self, cr3: int, address: int, error_code: int) -> bool:
        """A kernel access found nothing: copy the reference directory's entry into the directory of CR3.

        True when the access may be tried again.  No area is looked up and no lock taken: it may happen anywhere.
        The directory is that of CR3, not the current task's: the two may differ.
        """
        layout = self._layout
        if self._broken_sync:
            return False
        if error_code & (PF_PROT | PF_USER) or not (
            layout.vmalloc.start <= address < layout.vmalloc.end or layout.vmemmap.start <= address < layout.vmemmap.end
        ):
            return False
        if not is_present(self._tables.lookup_pte(self._tables.kernel_pgd, address)):
            return False
        if not self._entries.sync(cr3 // PAGE_SIZE, address):
            return False
        self.synced += 1
        return True

    def report(self) -> str:
        """One line an area."""
        return "\n".join(
            f"{area.start:#010x}-{area.end:#010x} {len(area.frames):>6} pages  {area.kind}" for area in self.areas
        )

    def sync_all(self, start: int, end: int) -> None:
        """Every directory that is in use learns of [start, end) (vmalloc_sync_all)."""
        for pgd in sorted(mm.pgd for mm in self._mmlist):
            self._entries.sync_range(pgd, start, end)

    def _enter(self, at: int, area: Area, prot: int = PROT_KERNEL) -> None:
        self.areas.insert(at, area)
        if self.eager:
            self.sync_all(area.start, area.end)
        if self._broken_guard:
            guard = self._tables.pfn_pte(self._zero_page, P | RW | A | D | self._tables.nx)
            self._entries.map_page(area.end, guard)
        if self._bus.active:
            self._bus.emit(
                MapChange(self._clock.now, self._smp.this_cpu.index, 0, area.kind, area.start, area.end, prot)
            )

    def get_vm_area(self, size: int) -> tuple[int, int]:
        """Where in the list and at which address ``size`` bytes are free; address 0 for nowhere."""
        region = self._layout.vmalloc
        start = region.start
        for at, area in enumerate(self.areas):
            if start + size <= area.start:
                return at, start
            start = area.end + GUARD
        return len(self.areas), start if start + size <= region.end else 0

    def _unmap(self, start: int, frames: list[int], owned: bool) -> None:
        """Clear the entries, let every CPU forget them, and only then release the frames."""
        early = self._early_free
        guard = self._broken_guard
        for number in range(len(frames) + guard):
            self._entries.unmap(start + number * PAGE_SIZE)
            if early and owned and number < len(frames):
                self._page_alloc.put_page(frames[number])
        if frames:
            self._entries.flush(self._smp.this_cpu)
        if owned and not early:
            for pfn in frames:
                self._page_alloc.put_page(pfn)
