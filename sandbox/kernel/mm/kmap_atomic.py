"""Windows on frames that one CPU opens for a moment, as ``kmap_atomic`` had them at three times.

``slots`` (2.3 to 2.6.36): a fixed window for each purpose (``KmType``) of each CPU; an entry stays until the next use.
``stack`` (2.6.37): what was opened last is closed first; an entry is cleared before the window is given up.
``heap`` (post 004, LWN 2009): a bitmap a CPU, any order, and runs of several pages.  No kernel had it.

Windows lie in the fixmap, the first CPU's at the top, counted downwards (arch/i386/mm/highmem.c).  Only their own CPU
uses them, so that every invalidation is local (MM 14).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.base.layout import FIXADDR_END
from sandbox.kernel.mm.kernel_entries import KernelEntries
from sandbox.records import dataclass
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

    @property
    def place(self) -> str:
        """Address and frames."""
        return f"{self.linear:#010x} on {frames_text(self.frames)}"

    def __str__(self) -> str:
        return f"{self.place}, {type_name(self.km_type)}, opened by {self.owner}"


@dataclass(slots=True)
class KmapAtomicCounters:
    """What windows came to since boot.  ``invlpg`` are local; no window ever costs an interrupt to another CPU.

    The last three tell of the last refusal: windows that were free on its CPU, runs in which they lay, and the longest.
    """

    windows: int = 0
    pages: int = 0
    pte_stores: int = 0
    invlpg: int = 0
    deepest: int = 0
    refused: int = 0
    refused_by_fragmentation: int = 0
    free_when_refused: int = 0
    runs_when_refused: int = 0
    longest_when_refused: int = 0


def type_name(km_type: int) -> str:
    """KM_USER0 for 3."""
    return f"KM_{KmType(km_type).name}" if 0 <= km_type < KM_TYPE_NR else f"type {km_type}"


def runs_of(free: int) -> list[int]:
    """Lengths of the runs of ones in a bitmap, from the last window to the first."""
    return [len(run) for run in f"{free:b}".split("0") if run]


def frames_text(frames: Sequence[int]) -> str:
    """What a message calls the pages of a window."""
    if not frames:
        return "no page"
    first, last = frames[0], frames[-1]
    return f"frame {first:#x}" if len(frames) == 1 else f"{len(frames)} frames from {first:#x} to {last:#x}"


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
        self._any_cpu = broken("no-window-owner")
        self.depth = [0] * cpus
        self.live: list[dict[int, Window]] = [{} for _ in range(cpus)]
        """By CPU, in the order of opening: open windows by address."""
        self.counters = KmapAtomicCounters()

    def open(self, cpu: KernelCpu, frames: Sequence[int], km_type: int) -> int:
        """A window on frames, in a row upwards; the first address.  Raises KmapError."""
        index, pages = cpu.index, len(frames)
        first = self._take(cpu, frames, km_type)
        linear = self._address(index, first + pages - 1)
        try:
            for number, pfn in enumerate(frames):
                self._map(cpu, linear + number * PAGE_SIZE, self._entries.mk_pte(pfn, self._flags))
        except SandboxError:  # no frame for a table, or somebody else's entry: nothing of it stays
            for page in range(number):
                self._unmap(cpu, linear + page * PAGE_SIZE)
            self._give(index, first, pages)
            raise
        self.live[index][linear] = Window(linear, tuple(frames), km_type, who(cpu))
        self.depth[index] += 1
        counters = self.counters
        counters.windows += 1
        counters.pages += pages
        counters.deepest = max(counters.deepest, self.depth[index])
        return linear

    def close(self, cpu: KernelCpu, linear: int, km_type: int = KM_USER0) -> None:
        """Give a window back, by its address.  Raises KmapError."""
        holder, window = self._opened(cpu, linear)
        self._check_close(holder, window, km_type)
        if self._pops_first:
            self._pop(holder, window)
            self._unmap_all(cpu, window)
        else:
            self._unmap_all(cpu, window)
            self._pop(holder, window)

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
                f"{what} with {len(held)} kmap_atomic window{'s' * (len(held) > 1)} of CPU {cpu.index} open, "
                f"{next(reversed(held.values())).place}",
                "\n".join(map(str, held.values())),
            )

    # -- what the policies differ in -----------------------------------------------------------------------------

    def _take(self, cpu: KernelCpu, frames: Sequence[int], km_type: int) -> int:
        """The first of so many free windows of a CPU, by number.  Raises KmapError."""
        raise NotImplementedError

    def _give(self, cpu: int, first: int, pages: int) -> None:
        """They are free again, from a number on."""

    def _check_close(self, cpu: int, window: Window, km_type: int) -> None:
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

    def _pop(self, cpu: int, window: Window) -> None:
        del self.live[cpu][window.linear]
        self.depth[cpu] -= 1
        self._give(cpu, self._number(cpu, window), len(window.frames))

    def _opened(self, cpu: KernelCpu, linear: int) -> tuple[int, Window]:
        """Whose window it is, by index, and the window.  Raises KmapError unless it is this CPU's."""
        window = self.live[cpu.index].get(linear)
        if window is not None:
            return cpu.index, window
        for other in range(len(self.live)):
            if other != cpu.index and self.covers(other, linear):
                held = self.live[other].get(linear)
                if held is not None and self._any_cpu:
                    return other, held
                place = f"{linear:#010x}" if held is None else held.place
                raise WrongCpu(
                    f"CPU {cpu.index} closes {place}, a kmap_atomic window of CPU {other}",
                    "that is not open there either" if held is None else str(held),
                )
        raise NotOpen(
            f"{linear:#010x} is no open kmap_atomic window of CPU {cpu.index}", self._list(cpu.index) or "none is open"
        )

    def _list(self, cpu: int) -> str:
        return "\n".join(map(str, self.live[cpu].values()))

    def _refuse(self, cpu: KernelCpu, frames: Sequence[int], why: str, free: int = 0) -> WindowsUsedUp:
        """``free`` is the bitmap of free windows."""
        counters, runs = self.counters, runs_of(free)
        counters.refused += 1
        counters.free_when_refused = sum(runs)
        counters.runs_when_refused, counters.longest_when_refused = len(runs), max(runs, default=0)
        return WindowsUsedUp(
            f"CPU {cpu.index} has no free kmap_atomic window for {frames_text(frames)}: {why}", self._list(cpu.index)
        )

    def _only_one(self, cpu: KernelCpu, frames: Sequence[int]) -> None:
        if len(frames) != 1:
            raise self._refuse(cpu, frames, f"{len(frames)} pages in a row need the policy kmap_atomic=heap")


class SlotWindows(AtomicWindows):
    """Slot ``type + KM_TYPE_NR * cpu``: 2.4 stores the entry and invalidates when it opens, and closes nothing."""

    per_cpu = KM_TYPE_NR

    def __init__(self, entries: KernelEntries, cpus: int, broken: Breakage) -> None:
        super().__init__(entries, cpus, broken)
        self._unchecked = broken("no-slot-check")

    def _take(self, cpu: KernelCpu, frames: Sequence[int], km_type: int) -> int:
        self._only_one(cpu, frames)
        if not 0 <= km_type < KM_TYPE_NR:
            raise self._refuse(cpu, frames, f"type {km_type} is none of the {KM_TYPE_NR}")
        held = self.live[cpu.index].get(self._address(cpu.index, km_type))
        if held is not None and not self._unchecked:
            raise SlotClash(
                f"{who(cpu)} opens {type_name(km_type)} of CPU {cpu.index}, which is open, for {frames_text(frames)}",
                str(held),
            )
        return km_type

    def _check_close(self, cpu: int, window: Window, km_type: int) -> None:
        if km_type != window.km_type:
            raise NotOpen(f"{window.place} is closed as {type_name(km_type)}", str(window))

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

    def __init__(self, entries: KernelEntries, cpus: int, broken: Breakage) -> None:
        super().__init__(entries, cpus, broken)
        self._any_order = broken("no-window-order")
        self._room = KM_SLOTS + broken("no-window-limit")

    def _take(self, cpu: KernelCpu, frames: Sequence[int], km_type: int) -> int:
        self._only_one(cpu, frames)
        depth = self.depth[cpu.index]
        if depth == self._room:
            raise self._refuse(cpu, frames, f"all {KM_SLOTS} are open")
        return depth

    def _check_close(self, cpu: int, window: Window, km_type: int) -> None:
        if self._number(cpu, window) != self.depth[cpu] - 1 and not self._any_order:
            raise LifoBreach(
                f"CPU {cpu} closes kmap_atomic window {window.place}, which is not its last", self._list(cpu)
            )


class HeapWindows(AtomicWindows):
    """A bitmap of free windows a CPU, first fit; the address is the handle (post 004)."""

    def __init__(self, entries: KernelEntries, cpus: int, broken: Breakage) -> None:
        super().__init__(entries, cpus, broken)
        self._anywhere = broken("heap-any-windows")
        self.free = [(1 << KM_SLOTS) - 1] * cpus
        """By CPU, bit n: window n is free."""

    def runs(self, cpu: int) -> list[int]:
        """How long the runs of free windows are: more than one is fragmentation."""
        return runs_of(self.free[cpu])

    def _take(self, cpu: KernelCpu, frames: Sequence[int], km_type: int) -> int:
        pages, free = len(frames), self.free[cpu.index]
        wanted = 1 if self._anywhere else (1 << pages) - 1
        for first in range(KM_SLOTS - pages + 1 if pages else 0):
            if free >> first & wanted == wanted:
                self.free[cpu.index] = free & ~((1 << pages) - 1 << first)
                return first
        runs = self.runs(cpu.index)
        left = sum(runs)
        self.counters.refused_by_fragmentation += 0 < pages <= left
        several = f" in {len(runs)} runs" if len(runs) > 1 else ""
        why = f"{pages} in a row asked for, {left} free{several}, {max(runs, default=0)} in a row at most"
        raise self._refuse(cpu, frames, why, free)

    def _give(self, cpu: int, first: int, pages: int) -> None:
        self.free[cpu] |= (1 << pages) - 1 << first


KMAP_ATOMIC: dict[str, type[AtomicWindows]] = {"stack": StackWindows, "slots": SlotWindows, "heap": HeapWindows}
"""By policy."""
