"""From a reset machine to a running kernel: tables, descriptors, mem_map, then the CPU loads them itself.

The order is 2.0's: everything below ``memory_start`` stays reserved for ever; what is above goes to the allocator.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from sandbox.engine.exits import Halt
from sandbox.kernel.config import KernelConfig
from sandbox.kernel.layout import (
    FIXADDR_END,
    FIXADDR_START,
    KERNEL_LOAD,
    PAGE_OFFSET,
    PAGE_SIZE,
    PKMAP_BASE,
    Layout,
    plan,
)
from sandbox.kernel.mm.frames import FrameAllocator
from sandbox.kernel.mm.memmap import MemMap
from sandbox.kernel.mm.pagetable import NX, RW, US, A, D, G, LegacyTables, P, PaeTables, PageTables
from sandbox.kernel.smp import KernelCpu
from sandbox.kernel.symbols import KernelImage
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.descriptors import FLAG_PRESENT, TYPE_TSS32, SegmentDescriptor
from sandbox.x86.errors import ConfigurationError, SandboxError

CR0 = 0x80010033
"""PG, WP, NE, ET, MP, PE."""
CR0_WP = 1 << 16
CR4_TSD, CR4_PSE, CR4_PAE, CR4_PGE, CR4_SSE = 1 << 2, 1 << 4, 1 << 5, 1 << 7, 0x600
EFER_NXE = 1 << 11
LOW_FIRST, LOW_END = 0x1000, 0x9F000
"""Conventional memory that mem_init gives away: frame 0 and the last pages below 640 KB stay reserved."""

TSS_SELECTOR = 9 << 3
GDT_BYTES, TSS_OFFSET, TSS_BYTES, DESCRIPTORS_OFFSET = 128, 0x100, 104, 0x200
_FLAT = 0x00CF << 48 | 0xFFFF


class BootFailed(SandboxError):
    """The first instructions did not get the CPU to the kernel."""

    exit_status = 3


@dataclass(slots=True)
class BootMemory:
    """Frames handed out at boot, contiguous and for ever: ``memory_start`` moves up (physical address)."""

    memory_start: int
    limit: int
    ranges: list[tuple[int, int]]
    """RAM as (physical, bytes): what is taken lies in one of these."""
    taken: list[tuple[str, int, int]] = field(default_factory=list)

    def take(self, name: str, size: int, align: int = PAGE_SIZE) -> int:
        """Physical address of ``size`` bytes.  Raises ConfigurationError when RAM is too small."""
        for first, length in self.ranges:
            start = -(-max(first, self.memory_start) // align) * align
            end = start + -(-size // PAGE_SIZE) * PAGE_SIZE
            if end <= min(first + length, self.limit):
                break
        else:
            raise ConfigurationError(
                f"RAM is too small: {name} needs {size} bytes in one piece between {self.memory_start:#x} and the end "
                f"of lowmem at {self.limit:#x}"
            )
        self.memory_start = end
        self.taken.append((name, start, end))
        return start


@dataclass(slots=True)
class Booted:
    """What boot hands to the kernel."""

    layout: Layout
    tables: PageTables
    kernel_pgd: int
    memmap: MemMap
    frames: FrameAllocator
    zero_page: int
    reserved: list[tuple[str, int, int]]


def boot(memory: PhysicalMemory, cpus: list[KernelCpu], config: KernelConfig, image: KernelImage) -> Booted:
    """Bring the kernel up on every CPU.  Raises ConfigurationError and BootFailed."""
    ranges = limit_memory(memory.ranges, config.boot)
    low_end = max(start + size for start, size in ranges if start < 1 << 32)
    layout = plan(low_end, config.direct_map)
    lowmem = min(low_end, layout.direct_frames * PAGE_SIZE)
    start = BootMemory(KERNEL_LOAD, lowmem, ranges)
    if start.take("kernel image", len(image.text)) != KERNEL_LOAD:
        raise ConfigurationError(f"the kernel is loaded at {KERNEL_LOAD:#x}, where this machine has a hole")
    memory.declare(Reason.IMAGE, KERNEL_LOAD, len(image.text))
    memory.host_write(KERNEL_LOAD, image.text, Reason.IMAGE)
    memory.confine(Reason.TABLE)
    memory.confine(Reason.STRUCT_PAGE)

    tables = _tables(memory, start, config)
    kernel_pgd = tables.new_pgd(None)
    _direct_map(tables, kernel_pgd, lowmem, config)
    tables.pte_alloc(kernel_pgd, PKMAP_BASE, user=False)
    for linear in range(FIXADDR_START, FIXADDR_END, tables.large_page):
        tables.pte_alloc(kernel_pgd, linear, user=False)

    max_pfn = max(first + size for first, size in ranges) // PAGE_SIZE
    memmap = MemMap(memory, start.take("mem_map", MemMap.bytes_for(max_pfn)), max_pfn)
    zero_page = start.take("zero page", PAGE_SIZE) // PAGE_SIZE
    stacks = [_cpu_page(memory, start, slot) for slot in cpus]
    for slot, stack in zip(cpus, stacks, strict=True):
        _start(slot, tables, kernel_pgd, stack, config, image)
    tables.clear_directory(kernel_pgd, 0)
    for slot in cpus:
        slot.call(slot.routines.flush_tlb_all)

    low, high = _zones(ranges, start.memory_start, lowmem, _text_end(tables))
    return Booted(layout, tables, kernel_pgd, memmap, FrameAllocator(memmap, low, high), zero_page, start.taken)


def limit_memory(ranges: list[tuple[int, int, int]], command_line: str) -> list[tuple[int, int]]:
    """RAM as (physical, bytes) that the kernel is told of: ``mem=nn[kKmMgG]`` cuts it off.

    Raises ConfigurationError for a size that is none.
    """
    limit = None
    for word in command_line.split():
        if word.startswith("mem="):
            text = word[4:]
            shift = {"k": 10, "m": 20, "g": 30}.get(text[-1:].lower(), 0)
            try:
                limit = int(text[:-1] if shift else text, 0) << shift
            except ValueError:
                raise ConfigurationError(f"boot option {word!r}: not a size") from None
            if limit < KERNEL_LOAD + (1 << 20):
                raise ConfigurationError(f"boot option {word!r}: the kernel needs 2 MB")
    kept = []
    for start, size, _ in ranges:
        end = start + size if limit is None else min(start + size, limit)
        if end > start:
            kept.append((start, end - start & ~(PAGE_SIZE - 1)))
    return kept


def _tables(memory: PhysicalMemory, start: BootMemory, config: KernelConfig) -> PageTables:
    def alloc() -> int:
        page = start.take("page table", PAGE_SIZE)
        memory.declare(Reason.TABLE, page, PAGE_SIZE)
        return page // PAGE_SIZE

    def free(pfn: int) -> None:
        raise AssertionError(f"boot page table {pfn:#x} released")

    if config.paging == "legacy":
        return LegacyTables(memory, alloc, free)
    made = PaeTables(memory, alloc, free)
    made.nx = 0 if "no-nx" in config.switches else NX
    return made


def _text_end(tables: PageTables) -> int:
    """The physical address behind the large pages of the direct map that are executable, for the kernel's text."""
    return -(-2 * KERNEL_LOAD // tables.large_page) * tables.large_page


def _direct_map(tables: PageTables, pgd: int, lowmem: int, config: KernelConfig) -> None:
    """Large pages over whole ones of RAM, small pages over the rest; the first megabytes at 0 too, until high."""
    flags = P | RW | A | D | G | (US if "no-supervisor" in config.switches else 0)
    large = tables.large_page
    for physical in range(0, lowmem - large + 1, large):
        nx = 0 if physical < _text_end(tables) else tables.nx
        tables.set_large(pgd, PAGE_OFFSET + physical, physical | flags | nx)
    for physical in range(lowmem // large * large, lowmem, PAGE_SIZE):
        tables.set_pte(pgd, PAGE_OFFSET + physical, physical | flags | tables.nx, user=False)
    tables.set_large(pgd, 0, P | RW | A | D)


def _cpu_page(memory: PhysicalMemory, start: BootMemory, slot: KernelCpu) -> int:
    """One page with GDT, TSS and their pseudo-descriptors, and three stack pages; the stacks' physical address."""
    page = start.take(f"GDT and TSS of CPU {slot.index}", PAGE_SIZE)
    memory.declare(Reason.TABLE, page, PAGE_SIZE)
    stacks = start.take(f"boot stacks of CPU {slot.index}", 2 * PAGE_SIZE)
    gdt = [0] * (GDT_BYTES // 8)
    gdt[2] = _FLAT | 0x9A << 40
    gdt[3] = _FLAT | 0x92 << 40
    gdt[4] = _FLAT | 0xFA << 40
    gdt[5] = _FLAT | 0xF2 << 40
    gdt[9] = SegmentDescriptor(PAGE_OFFSET + page + TSS_OFFSET, TSS_BYTES - 1, FLAG_PRESENT | TYPE_TSS32 << 8).encode()
    tss = bytearray(TSS_BYTES)
    struct.pack_into("<II", tss, 4, PAGE_OFFSET + stacks + PAGE_SIZE, 0x18)
    struct.pack_into("<H", tss, 102, TSS_BYTES)
    linear = PAGE_OFFSET + page
    descriptors = struct.pack("<HI2xHI", GDT_BYTES - 1, linear, 0, linear)
    memory.host_write(page, struct.pack(f"<{len(gdt)}Q", *gdt), Reason.TABLE)
    memory.host_write(page + TSS_OFFSET, bytes(tss), Reason.TABLE)
    memory.host_write(page + DESCRIPTORS_OFFSET, descriptors, Reason.TABLE)
    slot.gdt, slot.tss = page, page + TSS_OFFSET
    slot.idle.stack_top = PAGE_OFFSET + stacks + PAGE_SIZE
    slot.ipi.stack_top = PAGE_OFFSET + stacks + 2 * PAGE_SIZE
    return stacks


def _start(slot: KernelCpu, tables: PageTables, pgd: int, stack: int, config: KernelConfig, image: KernelImage) -> None:
    """Run ``startup_32`` at its physical address; afterwards the CPU's state is every ring-0 context's template."""
    context = slot.cpu.context
    pae = config.paging == "pae"
    context.eax = tables.cr3(pgd)
    context.ebx = CR4_TSD | CR4_PSE | CR4_PGE | CR4_SSE | (CR4_PAE if pae else 0)
    context.ecx = EFER_NXE if tables.nx else 0
    context.edx = CR0 & ~CR0_WP if "no-wp" in config.switches else CR0
    context.esi = PAGE_OFFSET + slot.gdt + DESCRIPTORS_OFFSET
    context.edi = context.esi + 8
    context.ebp = TSS_SELECTOR
    context.esp = PAGE_OFFSET + stack + PAGE_SIZE
    context.eip = image.routines.startup_32 - PAGE_OFFSET
    exit_ = slot.cpu.run(1000)
    if type(exit_) is not Halt:
        raise BootFailed(f"CPU {slot.index} did not boot: {exit_}")
    slot.template.copy_from(context)
    slot.cr3 = tables.cr3(pgd)


def _zones(
    ranges: list[tuple[int, int]], memory_start: int, lowmem: int, text_end: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Frame ranges (first, count) of low and high memory for the allocator, highmem from above 4 GB first.

    Lowmem below ``text_end`` comes last: the engine stores 18 times slower through an executable mapping.
    """
    low, high = [], []
    for start, size in ranges:
        end = start + size
        if start < KERNEL_LOAD:
            first, last = max(start, LOW_FIRST), min(end, LOW_END)
            if first < last:
                low.append((first // PAGE_SIZE, (last - first) // PAGE_SIZE))
            continue
        first = max(start, memory_start)
        if first < min(end, lowmem):
            low.append((first // PAGE_SIZE, (min(end, lowmem) - first) // PAGE_SIZE))
        if end > lowmem:
            first = max(start, lowmem)
            high.append((first // PAGE_SIZE, (end - first) // PAGE_SIZE))
    edge = text_end // PAGE_SIZE
    below = [(first, min(count, edge - first)) for first, count in low if first < edge]
    above = [(max(first, edge), first + count - max(first, edge)) for first, count in low if first + count > edge]
    return above + below, high[::-1]
