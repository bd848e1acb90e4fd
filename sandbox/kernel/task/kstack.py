"""Kernel stacks and contexts of tasks, and those that are kept for the next."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox.engine.context import CpuContext
from sandbox.kernel.arch.cpu import KernelCpu, KernelStack
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.base.layout import KSTACK_BASE, KSTACK_END, KSTACKS, kstack_page
from sandbox.kernel.mm.kernel_entries import KernelEntries
from sandbox.kernel.mm.page import MemMap
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.vmalloc import Vmalloc
from sandbox.kernel.mm.vmscan import Need
from sandbox.kernel.task.task import Task
from sandbox.x86.paging import PAGE_SIZE, RW, A, D, G, P


class KernelStacks:
    """A stack is one frame, with a scratch frame beside it and the contexts for calls on it.

    It is mapped once more in a region of its own, where the page below it is never there: in the direct map an
    overflow would store into whatever frame comes before (VMAP_STACK, Linux 4.9, has them in vmalloc space for that).
    The region's page tables are there from boot on, so that every directory has them and a push never faults lazily;
    those of further regions are entered everywhere when one is made.
    """

    __slots__ = (
        "_contexts",
        "_entries",
        "_fresh",
        "_memmap",
        "_page_alloc",
        "_pages",
        "_smp",
        "_stacks",
        "_vmalloc",
    )

    def __init__(
        self,
        page_alloc: PageAllocator,
        memmap: MemMap,
        entries: KernelEntries,
        smp: Smp,
        vmalloc: Vmalloc,
    ) -> None:
        self._page_alloc, self._memmap = page_alloc, memmap
        self._entries, self._smp, self._vmalloc = entries, smp, vmalloc
        self._fresh: Iterator[int] = map(kstack_page, range(2 * len(smp.cpus), KSTACKS))
        """Linear addresses that no stack has had yet; each CPU has two stacks from boot on."""
        self._pages: list[int] = []
        """Linear addresses that were given back."""
        self._contexts: list[CpuContext] = []
        self._stacks: list[tuple[KernelStack, tuple[int, ...]]] = []

    def new_kstack(self) -> tuple[KernelStack, tuple[int, ...]]:
        """A stack, and its two frames.  Raises OutOfMemory."""
        if self._stacks:
            return self._stacks.pop()
        linear = self._address()
        frames: list[int] = []
        try:
            frames += [self._page_alloc.alloc_page()]
            frames += [self._page_alloc.alloc_page()]
        except OutOfMemory:
            self._pages.append(linear)
            for pfn in frames:
                self._page_alloc.put_page(pfn)
            raise
        self._map(linear, frames[0])
        return KernelStack(linear + PAGE_SIZE, frames[0]), tuple(frames)

    def _address(self) -> int:
        """Where the next stack goes; when the region is full, in another one.  Raises OutOfMemory."""
        if self._pages:
            return self._pages.pop()
        linear = next(self._fresh, 0)
        if not linear:
            base = self._vmalloc.reserve_addresses("kernel stacks", KSTACK_END - KSTACK_BASE)
            self._fresh = (kstack_page(number, base) for number in range(KSTACKS))
            linear = next(self._fresh)
        return linear

    def _map(self, linear: int, pfn: int) -> None:
        """Give a frame its address as a stack.  What was not present needs no flush."""
        tables = self._entries.tables
        self._entries.map_page(linear, tables.pfn_pte(pfn, P | RW | A | D | G | tables.nx))

    def _unmap(self, stack: KernelStack) -> None:
        """Take the address away; every CPU has to forget it before the frame is somebody else's."""
        linear = stack.stack_top - PAGE_SIZE
        self._entries.unmap(linear)
        self._pages.append(linear)

    def new_context(self, cpu: KernelCpu) -> CpuContext:
        """A context in the state after boot on a CPU."""
        context = self._contexts.pop() if self._contexts else cpu.vcpu.new_context()
        context.copy_from(cpu.template)
        context.resumes_at = context.passes = -1
        return context

    def keep(self, task: Task) -> None:
        """A task is gone: its stack and context are there for the next."""
        self._contexts.append(task.context)
        self.put_kstack(task.kstack, task.stack_frames)

    def put_kstack(self, stack: KernelStack, frames: tuple[int, ...]) -> None:
        """Nobody runs on a stack any more."""
        self._stacks.append((stack, frames))

    @property
    def spare_frames(self) -> int:
        """Frames of the stacks that are kept."""
        return sum(len(frames) for _, frames in self._stacks)

    def shrink(self, need: Need) -> int:
        """Free the stacks that are kept and have a frame of the zones that are needed; the number of frames."""
        flags = self._memmap.flags
        given = [each for each in self._stacks if any(need.suits(flags(pfn)) for pfn in each[1])]
        self._stacks = [each for each in self._stacks if each not in given]
        for stack, _ in given:
            self._unmap(stack)
        if given:
            self._entries.flush(self._smp.this_cpu)
        frames = [pfn for _, each in given for pfn in each]
        for pfn in frames:
            self._page_alloc.put_page(pfn)
        return len(frames)
