"""Kernel stacks and contexts of tasks, and those that are kept for the next."""

from __future__ import annotations

from sandbox.engine.context import CpuContext
from sandbox.kernel.arch.cpu import KernelCpu, KernelStack
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.mm.page import MemMap
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.vmscan import Need
from sandbox.kernel.task.task import Task
from sandbox.x86.paging import PAGE_SIZE


class KernelStacks:
    """A stack is one frame, with a scratch frame beside it and the contexts for calls on it."""

    __slots__ = ("_contexts", "_memmap", "_page_alloc", "_stacks")

    def __init__(self, page_alloc: PageAllocator, memmap: MemMap) -> None:
        self._page_alloc, self._memmap = page_alloc, memmap
        self._contexts: list[CpuContext] = []
        self._stacks: list[tuple[KernelStack, tuple[int, ...]]] = []

    def new_kstack(self) -> tuple[KernelStack, tuple[int, ...]]:
        """A stack, and its two frames.  Raises OutOfMemory."""
        if self._stacks:
            return self._stacks.pop()
        stack = self._page_alloc.alloc_page()
        try:
            frames = (stack, self._page_alloc.alloc_page())
        except OutOfMemory:
            self._page_alloc.put_page(stack)
            raise
        return KernelStack(PAGE_OFFSET + (stack + 1) * PAGE_SIZE), frames

    def new_context(self, cpu: KernelCpu) -> CpuContext:
        """A context in the state after boot on a CPU."""
        context = self._contexts.pop() if self._contexts else cpu.vcpu.new_context()
        context.copy_from(cpu.template)
        context.resumes_at = context.passes = -1
        return context

    def keep(self, task: Task) -> None:
        """A task is gone: its stack and context are there for the next."""
        self._contexts.append(task.context)
        self._stacks.append((task.kstack, task.stack_frames))

    @property
    def spare_frames(self) -> int:
        """Frames of the stacks that are kept."""
        return sum(len(frames) for _, frames in self._stacks)

    def shrink(self, need: Need) -> int:
        """Free the stacks that are kept and have a frame of the zones that are needed; the number of frames."""
        flags = self._memmap.flags
        given = [each for each in self._stacks if any(need.suits(flags(pfn)) for pfn in each[1])]
        self._stacks = [each for each in self._stacks if each not in given]
        for _, frames in given:
            for pfn in frames:
                self._page_alloc.put_page(pfn)
        return sum(len(frames) for _, frames in given)
