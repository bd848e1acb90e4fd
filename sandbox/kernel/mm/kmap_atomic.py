"""Windows on frames that one CPU opens for a moment, as ``kmap_atomic`` had them at three times.

``slots`` (2.3 to 2.6.36): a fixed window for each purpose (``KmType``) of each CPU; an entry stays until the next use.
``stack`` (2.6.37): what was opened last is closed first; an entry is cleared before the window is given up.
``heap`` (post 004, LWN 2009): a bitmap a CPU, any order, and runs of several pages.  No kernel had it.

Windows lie in the fixmap, the first CPU's at the top, counted downwards (arch/i386/mm/highmem.c).  Only their own CPU
uses them, so that every invalidation is local (MM 14).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.base.layout import FIXADDR_END
from sandbox.kernel.mm.kernel_entries import KernelEntries
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SIZE, RW, A, D, P

KM_SLOTS = 16
"""Windows of one CPU."""
PAGE_KERNEL = P | RW | A | D


class KmType(IntEnum):
    """What a window is for (include/asm-i386/kmap_types.h of 2.6.11)."""

    BOUNCE_READ = 0
    SKB_SUNRPC_DATA = 1
    SKB_DATA_SOFTIRQ = 2
    USER0 = 3
    USER1 = 4
    BIO_SRC_IRQ = 5
    BIO_DST_IRQ = 6
    PTE0 = 7
    PTE1 = 8
    IRQ0 = 9
    IRQ1 = 10
    SOFTIRQ0 = 11
    SOFTIRQ1 = 12


KM_USER0, KM_USER1 = KmType.USER0, KmType.USER1
KM_TYPE_NR = len(KmType)


class KmapError(SandboxError):
    """A window was opened, closed or kept against the rules.  The kernel's own mistake unless a module called."""

    exit_status = 3


class WindowsUsedUp(KmapError):
    """A CPU has no free window, or no free run of the length asked for."""


class LifoBreach(KmapError):
    """With the stack, a window was closed that was not the last one opened."""


class SlotClash(KmapError):
    """With fixed slots, a purpose whose window is open: an interrupt beside a task, or a second use of one's own."""


class DirtySlot(KmapError):
    """A free window's entry is not empty (BUG_ON(!pte_none) of 2.6.37): somebody gave it up before clearing it."""


class WrongCpu(KmapError):
    """A CPU closes a window of another one's."""


class NotOpen(KmapError):
    """What is closed is no open window."""


class UnmapByPage(KmapError):
    """``kunmap_atomic`` was given the struct page: it takes the address, other than ``kunmap``."""


class WindowsHeld(KmapError):
    """Somebody sleeps, or goes back to ring 3, with a window open."""


@dataclass(frozen=True, slots=True)
class Window:
    """An open window: its first linear address, the frames behind it, its purpose, and who opened it."""

    linear: int
    frames: tuple[int, ...]
    km_type: int
    owner: str

    def __str__(self) -> str:
        frames = ", ".join(f"{pfn:#x}" for pfn in self.frames)
        return f"{self.linear:#010x} on frame {frames}, {type_name(self.km_type)}, opened by {self.owner}"


@dataclass(slots=True)
class KmapAtomicCounters:
    """What windows came to since boot.  ``invlpg`` are local; no window ever costs an interrupt to another CPU."""

    windows: int = 0
    pages: int = 0
    pte_stores: int = 0
    invlpg: int = 0
    deepest: int = 0
    refused: int = 0
    refused_by_fragmentation: int = 0


def type_name(km_type: int) -> str:
    """KM_USER0 for 3."""
    return f"KM_{KmType(km_type).name}" if 0 <= km_type < KM_TYPE_NR else f"type {km_type}"


def who(cpu: KernelCpu) -> str:
    """Who runs on a CPU."""
    if cpu.in_interrupt:
        return "an interrupt"
    return "the kernel" if cpu.current is None else f"task {cpu.current.pid}"


class AtomicWindows:
    """One interface, the policy ``kmap_atomic`` behind it: ``open`` and ``close``, and who has what open.

    ``depth`` counts each CPU's open windows; it must be 0 whenever a task sleeps or goes back to ring 3.
    """

    per_cpu = KM_SLOTS

    def __init__(self, entries: KernelEntries, cpus: int, broken: Breakage) -> None:
        self._entries = entries
        self._flags = PAGE_KERNEL | entries.tables.nx
        self._pops_first = broken("no-clear-before-pop")
        self._keeps = broken("no-window-flush")
        self.depth = [0] * cpus
        self.live: list[dict[int, Window]] = [{} for _ in range(cpus)]
        """By CPU, in the order of opening: open windows by address."""
        self.counters = KmapAtomicCounters()

    def open(self, cpu: KernelCpu, frames: Sequence[int], km_type: int) -> int:
        """A window on frames, in a row upwards; the first address.  Raises KmapError."""
        index, pages = cpu.index, len(frames)
        linear = self._address(index, self._take(cpu, pages, km_type) + pages - 1)
        for number, pfn in enumerate(frames):
            self._map(cpu, linear + number * PAGE_SIZE, self._entries.mk_pte(pfn, self._flags))
        self.live[index][linear] = Window(linear, tuple(frames), km_type, who(cpu))
        self.depth[index] += 1
        counters = self.counters
        counters.windows += 1
        counters.pages += pages
        counters.deepest = max(counters.deepest, self.depth[index])
        return linear

    def close(self, cpu: KernelCpu, linear: int, km_type: int = KM_USER0) -> None:
        """Give a window back, by its address.  Raises KmapError."""
        window = self._opened(cpu, linear)
        self._check_close(cpu, window, km_type)
        if self._pops_first:
            self._pop(cpu, window)
            self._unmap_all(cpu, window)
        else:
            self._unmap_all(cpu, window)
            self._pop(cpu, window)

    def frame_at(self, cpu: int, linear: int) -> int | None:
        """The frame that an address of an open window shows (kmap_atomic_to_page); None for other addresses."""
        for window in self.live[cpu].values():
            page = (linear - window.linear) // PAGE_SIZE
            if 0 <= page < len(window.frames):
                return window.frames[page]
        return None

    def covers(self, cpu: int, linear: int) -> bool:
        """The address belongs to a CPU's windows, open or not."""
        end = FIXADDR_END - cpu * self.per_cpu * PAGE_SIZE
        return end - self.per_cpu * PAGE_SIZE <= linear < end

    def check_released(self, cpu: KernelCpu, what: str) -> None:
        """Raises WindowsHeld where a CPU has windows open."""
        held = self.live[cpu.index]
        if held:
            raise WindowsHeld(
                f"{what} with {len(held)} kmap_atomic window{'s' * (len(held) > 1)} of CPU {cpu.index} open",
                "\n".join(map(str, held.values())),
            )

    # -- what the policies differ in -----------------------------------------------------------------------------

    def _take(self, cpu: KernelCpu, pages: int, km_type: int) -> int:
        """The first of so many free windows of a CPU, by number.  Raises KmapError."""
        raise NotImplementedError

    def _give(self, cpu: KernelCpu, window: Window) -> None:
        """They are free again."""

    def _check_close(self, cpu: KernelCpu, window: Window, km_type: int) -> None:
        """Raises KmapError where the policy forbids it."""

    def _map(self, cpu: KernelCpu, linear: int, entry: int) -> None:
        """2.6.24: nothing was there, so that nothing has to be forgotten.  Raises DirtySlot."""
        if self._entries.window(linear):
            raise DirtySlot(f"the free kmap_atomic window {linear:#010x} of CPU {cpu.index} still has its entry")
        self._entries.map_page(linear, entry)
        self.counters.pte_stores += 1

    def _unmap(self, cpu: KernelCpu, linear: int) -> None:
        """kpte_clear_flush."""
        self.counters.pte_stores += 1
        if self._keeps:
            self._entries.clear_window(linear)
            return
        self._entries.clear_window(linear, cpu)
        self.counters.invlpg += 1

    # -- their common part ---------------------------------------------------------------------------------------

    def _address(self, cpu: int, number: int) -> int:
        return FIXADDR_END - (cpu * self.per_cpu + number + 1) * PAGE_SIZE

    def _number(self, cpu: int, window: Window) -> int:
        return (FIXADDR_END - window.linear) // PAGE_SIZE - cpu * self.per_cpu - len(window.frames)

    def _unmap_all(self, cpu: KernelCpu, window: Window) -> None:
        for number in range(len(window.frames)):
            self._unmap(cpu, window.linear + number * PAGE_SIZE)

    def _pop(self, cpu: KernelCpu, window: Window) -> None:
        del self.live[cpu.index][window.linear]
        self.depth[cpu.index] -= 1
        self._give(cpu, window)

    def _opened(self, cpu: KernelCpu, linear: int) -> Window:
        window = self.live[cpu.index].get(linear)
        if window is not None:
            return window
        for other in range(len(self.live)):
            if other != cpu.index and self.covers(other, linear):
                raise WrongCpu(
                    f"CPU {cpu.index} closes {linear:#010x}, a kmap_atomic window of CPU {other}",
                    str(self.live[other].get(linear, "that is not open there either")),
                )
        raise NotOpen(
            f"{linear:#010x} is no open kmap_atomic window of CPU {cpu.index}", self._list(cpu.index) or "none is open"
        )

    def _list(self, cpu: int) -> str:
        return "\n".join(map(str, self.live[cpu].values()))

    def _refuse(self, cpu: KernelCpu, why: str) -> WindowsUsedUp:
        self.counters.refused += 1
        return WindowsUsedUp(f"CPU {cpu.index} has no free kmap_atomic window: {why}", self._list(cpu.index))

    def _only_one(self, cpu: KernelCpu, pages: int) -> None:
        if pages != 1:
            raise self._refuse(cpu, f"{pages} pages in a row need the policy kmap_atomic=heap")


class SlotWindows(AtomicWindows):
    """Slot ``type + KM_TYPE_NR * cpu``: 2.4 stores the entry and invalidates when it opens, and closes nothing."""

    per_cpu = KM_TYPE_NR

    def _take(self, cpu: KernelCpu, pages: int, km_type: int) -> int:
        self._only_one(cpu, pages)
        if not 0 <= km_type < KM_TYPE_NR:
            raise self._refuse(cpu, f"type {km_type} is none of the {KM_TYPE_NR}")
        held = self.live[cpu.index].get(self._address(cpu.index, km_type))
        if held is not None:
            raise SlotClash(f"{who(cpu)} opens {type_name(km_type)} of CPU {cpu.index}, which is open", str(held))
        return km_type

    def _check_close(self, cpu: KernelCpu, window: Window, km_type: int) -> None:
        if km_type != window.km_type:
            raise NotOpen(f"{window.linear:#010x} is closed as {type_name(km_type)}", str(window))

    def _map(self, cpu: KernelCpu, linear: int, entry: int) -> None:
        self.counters.pte_stores += 1
        if self._keeps:
            self._entries.map_page(linear, entry)
            return
        self._entries.set_window(cpu, linear, entry)
        self.counters.invlpg += 1

    def _unmap(self, cpu: KernelCpu, linear: int) -> None:
        """The entry stays: the next use of the slot overwrites it."""


class StackWindows(AtomicWindows):
    """A stack a CPU (2.6.37, "mm: stack based kmap_atomic()")."""

    def _take(self, cpu: KernelCpu, pages: int, km_type: int) -> int:
        self._only_one(cpu, pages)
        depth = self.depth[cpu.index]
        if depth == KM_SLOTS:
            raise self._refuse(cpu, f"all {KM_SLOTS} are open")
        return depth

    def _check_close(self, cpu: KernelCpu, window: Window, km_type: int) -> None:
        if self._number(cpu.index, window) != self.depth[cpu.index] - 1:
            raise LifoBreach(
                f"CPU {cpu.index} closes kmap_atomic window {window.linear:#010x}, which is not its last",
                self._list(cpu.index),
            )


class HeapWindows(AtomicWindows):
    """A bitmap of free windows a CPU, first fit; the address is the handle (post 004)."""

    def __init__(self, entries: KernelEntries, cpus: int, broken: Breakage) -> None:
        super().__init__(entries, cpus, broken)
        self.free = [(1 << KM_SLOTS) - 1] * cpus
        """By CPU, bit n: window n is free."""

    def largest_run(self, cpu: int) -> int:
        """Free windows in a row."""
        return max(map(len, f"{self.free[cpu]:b}".split("0")))

    def _take(self, cpu: KernelCpu, pages: int, km_type: int) -> int:
        free, wanted = self.free[cpu.index], (1 << pages) - 1
        for first in range(KM_SLOTS - pages + 1 if pages else 0):
            if free >> first & wanted == wanted:
                self.free[cpu.index] = free & ~(wanted << first)
                return first
        left, run = free.bit_count(), self.largest_run(cpu.index)
        self.counters.refused_by_fragmentation += pages <= left
        raise self._refuse(cpu, f"{pages} in a row asked for, {left} free, {run} in a row at most")

    def _give(self, cpu: KernelCpu, window: Window) -> None:
        self.free[cpu.index] |= (1 << len(window.frames)) - 1 << self._number(cpu.index, window)


KMAP_ATOMIC: dict[str, type[AtomicWindows]] = {"stack": StackWindows, "slots": SlotWindows, "heap": HeapWindows}
"""By policy."""
