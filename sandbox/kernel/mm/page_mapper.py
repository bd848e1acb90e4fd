"""How a page that is copied or cleared gets its kernel address: the policy ``high_pages``.

``atomic``: a window of ``kmap_atomic``.  ``local``: two addresses of each CPU in the kernel's own directory (post 001,
Miller and Jelinek: "picking 2 unused virtual addresses in kernel space").  ``task``: two addresses of each CPU in the
page table of the task that runs, supervisor only, below the lowest address that mmap gives to programs; they exist in a
task's context only ("it should work _iff_ all copy/clear page operations happen in such a context").

Threads share a page table and may copy at once on two CPUs: that is why the task's pair is one of each CPU, too.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.inject import Breakage, OutOfMemory
from sandbox.kernel.base.layout import FIXADDR_END, PAGE_OFFSET
from sandbox.kernel.mm.kernel_entries import KernelEntries
from sandbox.kernel.mm.kmap_atomic import KM_SLOTS, PAGE_KERNEL, AtomicWindows, KmapError, KmType, SlotClash, who
from sandbox.kernel.mm.vma import MMAP_MIN_ADDR
from sandbox.records import dataclass
from sandbox.x86.paging import PAGE_SIZE


class NoTaskContext(KmapError):
    """The task's own addresses were asked for where no task runs: boot, a kernel thread, an interrupt."""


class PageMapper(Protocol):
    """Kernel addresses for frames.  A low frame gets its direct address and costs nothing."""

    def map(self, cpu: KernelCpu, pfn: int) -> int:
        """The linear address of a frame.  Raises KmapError."""
        ...

    def unmap(self, cpu: KernelCpu, pfn: int, linear: int) -> None:
        """It is not used any more."""
        ...


@dataclass(slots=True)
class HighPageCounters:
    """Copies and clears of highmem pages that did not go through ``kmap_atomic``.

    ``strays`` went through one after all: outside a task's context, where ``task`` cannot serve them; with a pool, when
    it was full and nobody might sleep for an address.
    """

    maps: int = 0
    pte_stores: int = 0
    invlpg: int = 0
    strays: int = 0


class Pool(PageMapper, Protocol):
    """A PageMapper that keeps addresses, and lets tasks sleep when it has none left."""

    def would_wait(self, pfn: int) -> bool:
        """All of its addresses are in use, and none is this frame's."""
        ...

    def holding(self) -> bool:
        """The present task has one of them."""
        ...

    def covers(self, linear: int) -> bool:
        """The address is one of them."""
        ...


class Unwaiting:
    """A pool for copies and clears of pages, which are made with locks held, as in a page fault with the mmap_lock.

    Whoever has an address may need such a lock before he gives it back: where the pool is full a window serves, and
    where there is no frame for one of its tables.
    """

    def __init__(self, pool: Pool, stray: PageMapper, counters: HighPageCounters) -> None:
        self._pool, self._stray, self._counters = pool, stray, counters

    def map(self, cpu: KernelCpu, pfn: int) -> int:
        if not self._pool.would_wait(pfn) or self._waits():
            with suppress(OutOfMemory):
                return self._pool.map(cpu, pfn)
        self._counters.strays += 1
        return self._stray.map(cpu, pfn)

    def unmap(self, cpu: KernelCpu, pfn: int, linear: int) -> None:
        direct = PAGE_OFFSET + pfn * PAGE_SIZE == linear
        (self._pool if direct or self._pool.covers(linear) else self._stray).unmap(cpu, pfn, linear)

    def _waits(self) -> bool:
        return False


class WaitingOnce(Unwaiting):
    """The same for data of read(2) and write(2), before which no lock is held: tasks sleep for an address.

    Not for a second one: two tasks with one each would wait for each other.
    """

    def _waits(self) -> bool:
        return not self._pool.holding()


class AtomicMapper:
    """A window with a purpose of its own."""

    def __init__(self, windows: AtomicWindows, low: int, km_type: KmType) -> None:
        self._windows, self._low, self._type = windows, low, km_type

    def map(self, cpu: KernelCpu, pfn: int) -> int:
        if pfn < self._low:
            return PAGE_OFFSET + pfn * PAGE_SIZE
        return self._windows.open(cpu, (pfn,), self._type)

    def unmap(self, cpu: KernelCpu, pfn: int, linear: int) -> None:
        if pfn >= self._low:
            self._windows.close(cpu, linear, self._type)


class LocalAddress:
    """One of the two addresses of each CPU in the kernel's directory, below all windows."""

    def __init__(
        self, entries: KernelEntries, low: int, cpus: int, slot: int, counters: HighPageCounters, broken: Breakage
    ) -> None:
        self._entries, self._low, self._slot, self.counters = entries, low, slot, counters
        self._keeps = broken("no-window-flush")
        self._end = FIXADDR_END - (cpus * KM_SLOTS + slot) * PAGE_SIZE
        self._flags = PAGE_KERNEL | entries.tables.nx
        self._busy = [""] * cpus

    def map(self, cpu: KernelCpu, pfn: int) -> int:
        if pfn < self._low:
            return PAGE_OFFSET + pfn * PAGE_SIZE
        if self._busy[cpu.index]:
            raise SlotClash(
                f"{who(cpu)} copies a page while CPU {cpu.index}'s address for that is in use",
                f"by {self._busy[cpu.index]}; the policy high_pages=atomic gives interrupts windows of their own",
            )
        linear = self.address(cpu.index)
        self._store(cpu, linear, self._entries.mk_pte(pfn, self._flags))
        self._busy[cpu.index] = who(cpu)
        self.counters.maps += 1
        return linear

    def unmap(self, cpu: KernelCpu, pfn: int, linear: int) -> None:
        if pfn >= self._low:
            self._clear(cpu, linear)
            self._busy[cpu.index] = ""

    def address(self, cpu: int) -> int:
        """The linear address of a CPU's."""
        return self._end - (2 * cpu + 1) * PAGE_SIZE

    def _store(self, cpu: KernelCpu, linear: int, entry: int) -> None:
        self._entries.map_page(linear, entry)
        self.counters.pte_stores += 1

    def _clear(self, cpu: KernelCpu, linear: int) -> None:
        self._entries.clear_window(linear, None if self._keeps else cpu)
        self.counters.pte_stores += 1
        self.counters.invlpg += not self._keeps


class TaskAddress(LocalAddress):
    """The same in the page table of the task that a CPU runs; no other directory has it.  May raise OutOfMemory."""

    def __init__(
        self, entries: KernelEntries, low: int, cpus: int, slot: int, counters: HighPageCounters, broken: Breakage
    ) -> None:
        super().__init__(entries, low, cpus, slot, counters, broken)
        self._anywhere = broken("no-task-check")

    def address(self, cpu: int) -> int:
        return MMAP_MIN_ADDR - (2 * cpu + self._slot + 1) * PAGE_SIZE

    def has_table(self, cpu: KernelCpu) -> bool:
        """``map`` will not raise OutOfMemory, which in a page fault would lose the page that is to be filled."""
        return cpu.active_mm is not None and self._entries.has_task_window(cpu.active_mm.pgd, self.address(cpu.index))

    def available(self, cpu: KernelCpu) -> bool:
        """A task runs, in its own address space."""
        return cpu.active_mm is not None and cpu.current is not None and not cpu.in_interrupt and self._loaded(cpu)

    def map(self, cpu: KernelCpu, pfn: int) -> int:
        if pfn >= self._low and not self._anywhere and not self.available(cpu):
            raise NoTaskContext(
                f"{who(cpu)} copies or clears frame {pfn:#x} of highmem on CPU {cpu.index} by the task's own "
                "addresses, and no task's page table is loaded",
                "post 001: it works if all copies happen in a task's page faults; take high_pages=local",
            )
        return super().map(cpu, pfn)

    def _loaded(self, cpu: KernelCpu) -> bool:
        assert cpu.active_mm is not None
        return cpu.cr3 == cpu.active_mm.cr3

    def _pgd(self, cpu: KernelCpu) -> int:
        return self._entries.tables.kernel_pgd if cpu.active_mm is None else cpu.active_mm.pgd

    def _store(self, cpu: KernelCpu, linear: int, entry: int) -> None:
        self._entries.set_task_window(self._pgd(cpu), linear, entry)
        self.counters.pte_stores += 1

    def _clear(self, cpu: KernelCpu, linear: int) -> None:
        self._entries.clear_task_window(self._pgd(cpu), linear, None if self._keeps else cpu)
        self.counters.pte_stores += 1
        self.counters.invlpg += not self._keeps
