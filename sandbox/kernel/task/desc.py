"""A program's segments: its descriptors in GDT and LDT, and registers loaded by Python as the CPU would."""

from __future__ import annotations

from sandbox.engine.context import SEGMENT_SLOTS, CpuContext
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.pgalloc import TableFrames
from sandbox.kernel.task.task import GDT_ENTRY_TLS_ENTRIES, GDT_ENTRY_TLS_MIN, Task
from sandbox.machine.memory import PhysicalMemory, Reason

USER_CS, USER_DS = 0x23, 0x2B
_LDT_SELECTOR, _LDT_FLAGS = 0x88, 0x8200
"""As Linux has it; the selector is never looked up."""
_FLAT = {USER_CS >> 3: 0x00CFFB000000FFFF, USER_DS >> 3: 0x00CFF3000000FFFF}
_PRESENT, _SEGMENT, _CODE, _WRITABLE = 1 << 47, 1 << 44, 1 << 43, 1 << 41
"""Bit 41 is: writable for data, readable for code."""
_DPL3 = 3 << 45
TABLE_LDT = 4
TSS_ESP0 = 4
LDT_ENTRIES_OF_FRAME = 512


class Descriptors:
    """Tables in guest memory that hold descriptors, and who may load what of them."""

    __slots__ = ("_memory", "_stores", "_table_frames", "_words")

    def __init__(self, memory: PhysicalMemory, table_frames: TableFrames) -> None:
        self._memory, self._words, self._table_frames = memory, memory.words, table_frames
        self.renew_views()

    def renew_views(self) -> None:
        """Ask for the view to store through again: who watches stores has come or gone."""
        self._stores = self._memory.mutable_words(Reason.TABLE)

    def load_kernel_stack(self, cpu: KernelCpu, stack_top: int) -> None:
        """Where the CPU switches to on its way out of ring 3: ESP0 of its TSS."""
        self._stores[(cpu.tss + TSS_ESP0) >> 2] = stack_top

    def _descriptor(self, task: Task, selector: int) -> int:
        """The descriptor that ring 3 may load by a selector, 0 for none."""
        descriptor = self._entry(task, selector)
        wanted = _PRESENT | _SEGMENT | _DPL3
        return descriptor if descriptor & wanted == wanted else 0

    def is_absent_code(self, task: Task, selector: int) -> bool:
        """The selector names a code segment of ring 3 that is not present: loading it is #NP, not #GP."""
        return self._entry(task, selector) & (_PRESENT | _SEGMENT | _DPL3 | _CODE) == _SEGMENT | _DPL3 | _CODE

    def _entry(self, task: Task, selector: int) -> int:
        index = selector >> 3
        tls = index - GDT_ENTRY_TLS_MIN
        mm = task.mm
        if selector & TABLE_LDT:
            if mm is None or not mm.ldt or index >= mm.ldt_entries:
                return 0
            words, at = self._words, (mm.ldt << 10) + 2 * index
            return words[at] | words[at + 1] << 32
        return task.tls[tls] if 0 <= tls < GDT_ENTRY_TLS_ENTRIES else _FLAT.get(index, 0)

    def load_data(self, task: Task, name: str, selector: int) -> None:
        """DS, ES, FS or GS; a selector that the CPU would refuse leaves a null one (Linux's fixup)."""
        if selector > 3:
            descriptor = self._descriptor(task, selector)
            readable = not descriptor & _CODE or descriptor & _WRITABLE
            if descriptor and readable:
                _set(task.context, name, selector, descriptor)
                return
            selector = 0
        task.context.set_segment(name, selector, 0, 0, 0)

    def refresh(self, task: Task, entry: int) -> None:
        """Load the data segment registers again that hold an entry of the GDT, which has changed."""
        for name in ("ds", "es", "fs", "gs"):
            selector = task.context.quads[SEGMENT_SLOTS[name]] & 0xFFFF
            if selector >> 3 == entry and not selector & TABLE_LDT:
                self.load_data(task, name, selector)

    def load_code(self, task: Task, selector: int) -> bool:
        """CS for ring 3; False when the CPU would refuse it."""
        descriptor = self._descriptor(task, selector)
        if selector & 3 != 3 or not descriptor & _CODE:
            return False
        _set(task.context, "cs", selector, descriptor)
        return True

    def load_stack(self, task: Task, selector: int) -> bool:
        """SS for ring 3; False when the CPU would refuse it."""
        descriptor = self._descriptor(task, selector)
        if selector & 3 != 3 or descriptor & _CODE or not descriptor & _WRITABLE:
            return False
        _set(task.context, "ss", selector, descriptor)
        return True

    def load_tls(self, cpu: KernelCpu, task: Task) -> None:
        """Put a task's thread-local descriptors into the CPU's GDT."""
        at = (cpu.gdt >> 2) + 2 * GDT_ENTRY_TLS_MIN
        words = self._stores
        for descriptor in task.tls:
            words[at], words[at + 1] = descriptor & 0xFFFFFFFF, descriptor >> 32
            at += 2

    def grow_ldt(self, mm: Mm, number: int) -> None:
        """Make room for an entry in an address space's table.  Raises OutOfMemory."""
        frames = number // LDT_ENTRIES_OF_FRAME + 1
        order = (frames - 1).bit_length()
        if mm.ldt and order <= mm.ldt_order:
            return
        block = self._table_frames.alloc_block(order)
        if mm.ldt:
            first, at, count = mm.ldt << 10, block << 10, 2 * mm.ldt_entries
            self._stores[at : at + count] = self._stores[first : first + count]
            self._table_frames.free_block(mm.ldt, mm.ldt_order)
        mm.ldt, mm.ldt_order = block, order

    def set_ldt_entry(self, mm: Mm, number: int, descriptor: int) -> None:
        """Store a descriptor in an address space's table."""
        at = (mm.ldt << 10) + 2 * number
        self._stores[at], self._stores[at + 1] = descriptor & 0xFFFFFFFF, descriptor >> 32
        mm.ldt_entries = max(mm.ldt_entries, number + 1)

    def copy_ldt(self, source: Mm, target: Mm) -> None:
        """Give a forked address space the same descriptors.  Raises OutOfMemory."""
        if source.ldt:
            target.ldt, target.ldt_order = self._table_frames.alloc_block(source.ldt_order), source.ldt_order
            first, at, count = source.ldt << 10, target.ldt << 10, 2 * source.ldt_entries
            self._stores[at : at + count] = self._stores[first : first + count]
            target.ldt_entries = source.ldt_entries


def _set(context: CpuContext, name: str, selector: int, descriptor: int) -> None:
    base = descriptor >> 16 & 0xFFFFFF | descriptor >> 56 << 24
    limit = descriptor & 0xFFFF | (descriptor >> 48 & 0xF) << 16
    if descriptor >> 55 & 1:
        limit = limit << 12 | 0xFFF
    context.set_segment(name, selector, base, limit, descriptor >> 32 & 0x00F0FF00)


def load_ldt(task: Task) -> None:
    """Point a task's LDTR to its address space's table."""
    mm = task.mm
    assert mm is not None
    limit = mm.ldt_entries * 8 - 1
    task.context.set_segment("ldtr", _LDT_SELECTOR, PAGE_OFFSET + (mm.ldt << 12), limit, _LDT_FLAGS)
