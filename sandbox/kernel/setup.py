"""From a reset machine to a running kernel: tables, descriptors, mem_map, then the CPU loads them itself.

The order is 2.0's: everything below ``memory_start`` stays reserved for ever; what is above goes to the allocator.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from sandbox.engine.exits import Halt
from sandbox.kernel.arch.bootdriver import call_boot_init
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.arch.vmlinux import KernelImage
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.layout import (
    FIXADDR_END,
    FIXADDR_START,
    KERNEL_LOAD,
    KSTACK_BASE,
    KSTACK_END,
    PAGE_OFFSET,
    PKMAP_BASE,
    Layout,
    kstack_page,
    plan,
)
from sandbox.kernel.mm.bootmem import (
    FOUR_GIGABYTES,
    BootMemory,
    BootOptions,
    limit_memory,
    lowmem_limit,
    parse_boot,
    usable_highmem,
    without,
)
from sandbox.kernel.mm.kernel_entries import KernelEntries
from sandbox.kernel.mm.pgdat import PgDat
from sandbox.kernel.mm.pgtable import PageTables
from sandbox.kernel.mm.pgtable_2level import LegacyTables
from sandbox.kernel.mm.pgtable_3level import LowFirstTables, PaeTables
from sandbox.kernel.mm.sparse import SECTION_BITS, FlatMem, MemoryModel, SparseMem, VirtualMemMap, vmemmap_bytes
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.records import dataclass
from sandbox.x86.descriptors import FLAG_PRESENT, TYPE_TSS32, SegmentDescriptor
from sandbox.x86.errors import ConfigurationError, SandboxError
from sandbox.x86.masks import CR0_AM, CR0_PAGED, CR0_WP, CR4_PAE, CR4_PGE, CR4_PSE, CR4_SSE, CR4_TSD, EFER_NXE
from sandbox.x86.paging import NX, PAGE_SIZE, RW, US, A, D, G, P

LOW_FIRST, LOW_END = 0x1000, 0x9F000
"""Conventional memory that mem_init gives away: frame 0 and the last pages below 640 KB stay reserved."""

TSS_SELECTOR = 9 << 3
GDT_BYTES, TSS_OFFSET, TSS_BYTES, DESCRIPTORS_OFFSET = 128, 0x100, 104, 0x200
_FLAT = 0x00CF << 48 | 0xFFFF


class BootFailed(SandboxError):
    """The first instructions did not get the CPU to the kernel."""

    exit_status = 3


@dataclass(slots=True, eq=False, repr=False)
class Booted:
    """What boot hands to the kernel."""

    layout: Layout
    entries: KernelEntries
    model: MemoryModel
    pgdat: PgDat
    zero_page: int
    reserved: list[tuple[str, int, int]]
    ranges: list[tuple[int, int]]
    """RAM that the kernel was told of: (physical, bytes)."""
    kva_size: int | None
    """Bytes that the kva pool may have at most (boot option kva=)."""
    pkmap: int | None
    """Slots that kmap may have at most (boot option pkmap=)."""
    warnings: list[str]
    """What of the command line nobody reads, and what of RAM nobody uses."""
    limit: int | None
    """The physical address above which RAM is ignored, also what is added later; None for none."""


@dataclass(slots=True)
class MemoryPlan:
    """What the kernel makes of a machine's RAM: addresses in bytes, ranges as (physical, bytes)."""

    layout: Layout
    lowmem: int
    """The physical address behind the last byte with an address in the direct map."""
    ranges: list[tuple[int, int]]
    limit: int | None
    warnings: list[str]


def plan_memory(ram: Sequence[tuple[int, int, int]], config: KernelConfig, options: BootOptions) -> MemoryPlan:
    """From the machine's map (``PhysicalMemory.ranges``) to what is mapped, used and ignored.

    Raises ConfigurationError.
    """
    ranges = limit_memory(list(ram), BootOptions() if config.broken("no-mem-limit") else options)
    low_end = max(start + size for start, size in ranges if start < FOUR_GIGABYTES)
    end = max(start + size for start, size in ranges)
    highmem = "off" if options.highmem == 0 else config.highmem
    last = max(start + size for start, size, _ in ram)
    described = min(last, {"off": config.direct_map, "4G": FOUR_GIGABYTES, "64G": last}[highmem])
    virtual = vmemmap_bytes(described) if config.policies["mem_model"] == "vmemmap" else 0
    layout = plan(low_end, lowmem_limit(options, low_end, end, config.direct_map), virtual)
    lowmem = min(low_end, layout.direct_frames * PAGE_SIZE)
    return MemoryPlan(layout, lowmem, *usable_highmem(ranges, lowmem, highmem))


def boot(memory: PhysicalMemory, cpus: Sequence[KernelCpu], config: KernelConfig, image: KernelImage) -> Booted:
    """Bring the kernel up on every CPU.  Raises ConfigurationError, BootFailed and BootDriverFailed."""
    options, broken = parse_boot(config.boot), config.broken
    planned = plan_memory(memory.ranges, config, options)
    layout, lowmem, ranges = planned.layout, planned.lowmem, planned.ranges
    usable = without(ranges, options.excluded)
    start = BootMemory(KERNEL_LOAD, lowmem, usable)
    if start.take("kernel image", len(image.text)) != KERNEL_LOAD:
        raise ConfigurationError(f"the kernel is loaded at {KERNEL_LOAD:#x}, where this machine has a hole")
    memory.declare(Reason.IMAGE, KERNEL_LOAD, len(image.text))
    memory.host_write(KERNEL_LOAD, image.text, Reason.IMAGE)
    memory.confine(Reason.TABLE)
    memory.confine(Reason.STRUCT_PAGE)

    tables = _tables(memory, start, config)
    tables.kernel_pgd = tables.new_pgd(None)
    entries = KernelEntries(tables, broken)
    _direct_map(entries, lowmem, config, image, options.large_pages)
    entries.place(PKMAP_BASE)
    fixed = (*range(KSTACK_BASE, KSTACK_END, tables.large_page), *range(FIXADDR_START, FIXADDR_END, tables.large_page))
    for linear in fixed:
        entries.place(linear)

    _map_init(entries, image)
    model = _memory_model(memory, start, ranges, entries, layout, config)
    zero_page = start.take("zero page", PAGE_SIZE) // PAGE_SIZE
    for cpu in cpus:
        _cpu_page(memory, start, cpu)
        _boot_stacks(start, cpu, entries)
    unreserved = start.memory_start
    for name, size in options.reservations:
        start.take(name, size)
    for cpu in cpus:
        _start(cpu, tables, config, image)
    for driver in config.boot_drivers:
        first, last = start.left()
        given = call_boot_init(memory, cpus[0], image.symbols, driver, PAGE_OFFSET + first, PAGE_OFFSET + last)
        if given - PAGE_OFFSET > first:
            start.take(driver[0], given - PAGE_OFFSET - first)
    entries.clear_directory(0)
    words = {
        **model.guest_words(),
        "swapper_pg_dir": tables.kernel_pgd << 12,
        "high_memory": PAGE_OFFSET + lowmem,
        "addr_limit": 0xFFFFFFFF if broken("no-access-check") else PAGE_OFFSET,
    }
    for name, word in words.items():
        memory.host_write(image.symbols[name] - PAGE_OFFSET, struct.pack("<I", word), Reason.IMAGE)
    freed = [] if broken("no-init-free") else _free_initmem(memory, cpus, entries, image, start)
    low, high = _zones(usable, start.memory_start, lowmem)
    if broken("no-reserve"):
        holes = [(0, KERNEL_LOAD), (KERNEL_LOAD, lowmem - KERNEL_LOAD)] if isinstance(model, FlatMem) else ranges
        low, _ = _zones(holes, unreserved, lowmem, KERNEL_LOAD)
    pgdat = PgDat(model.memmap, low + freed, high, int(config.policies["orders"]), len(cpus), broken)
    warnings = options.warnings + planned.warnings
    return Booted(
        layout, entries, model, pgdat, zero_page, start.taken, ranges, options.kva, options.pkmap, warnings,
        planned.limit,
    )  # fmt: skip


def _memory_model(
    memory: PhysicalMemory,
    start: BootMemory,
    ranges: list[tuple[int, int]],
    entries: KernelEntries,
    layout: Layout,
    config: KernelConfig,
) -> MemoryModel:
    kind = config.policies["mem_model"]
    if kind == "sparsemem":
        return SparseMem(memory, start, ranges, SECTION_BITS[config.policies["section"]])
    if kind == "vmemmap":
        return VirtualMemMap(memory, start, ranges, entries, layout.vmemmap)
    return FlatMem(memory, start, max(first + size for first, size in ranges) // PAGE_SIZE)


def _free_initmem(
    memory: PhysicalMemory,
    cpus: Sequence[KernelCpu],
    entries: KernelEntries,
    image: KernelImage,
    start: BootMemory,
) -> list[tuple[int, int]]:
    """Fill the code that only boot needed with INT3, unmap its addresses, and give its frames away.

    Nobody gets these addresses again: in the direct map the frames have others, so that a call into init code faults
    with every format of tables, whatever its frames hold by then.
    """
    first, end, physical = image.routines.init_start, image.routines.init_end, image.init_load
    cpus[0].call(image.routines.poison, eax=0xCCCCCCCC, ecx=(end - first) // 4, edi=first)
    for linear in range(first, end, PAGE_SIZE):
        entries.unmap(linear)
    for cpu in cpus:
        cpu.call(cpu.routines.flush_tlb_all)
        cpu.vcpu.drop_all_code()
    memory.withdraw(physical, end - first)
    name, kernel_start, _ = start.taken[0]
    start.taken[0] = (name, kernel_start, physical)
    return [(physical // PAGE_SIZE, (end - first) // PAGE_SIZE)]


def _tables(memory: PhysicalMemory, start: BootMemory, config: KernelConfig) -> PageTables:
    def alloc() -> int:
        page = start.take("page table", PAGE_SIZE)
        memory.declare(Reason.TABLE, page, PAGE_SIZE)
        return page // PAGE_SIZE

    def free(pfn: int) -> None:
        raise AssertionError(f"boot page table {pfn:#x} released")

    if config.paging == "legacy":
        return LegacyTables(memory, alloc, free)
    made = (LowFirstTables if config.broken("pae-low-first") else PaeTables)(memory, alloc, free)
    made.nx = 0 if config.broken("no-nx") else NX
    made.own_kernel_pmd = config.policies["kernel_pmd"] == "process"
    return made


def _direct_map(
    entries: KernelEntries, lowmem: int, config: KernelConfig, image: KernelImage, large_pages: bool
) -> None:
    """Large pages over whole ones of RAM, small pages where the kernel's image is and over the rest.

    The first megabytes are at 0 too, until the CPUs are high.
    """
    tables = entries.tables
    flags = P | RW | A | D | G | (US if config.broken("no-supervisor") else 0)
    large = tables.large_page
    text = range(image.start - PAGE_OFFSET, image.routines.text_end - PAGE_OFFSET)
    small_end = -(-(KERNEL_LOAD + len(image.text)) // large) * large
    for physical in range(0, lowmem, large):
        if physical < small_end or physical + large > lowmem or not large_pages:
            run = range(physical, min(physical + large, lowmem), PAGE_SIZE)
            small = [at | flags | (0 if at in text else tables.nx) for at in run]
            entries.map_run(PAGE_OFFSET + physical, small, user=bool(flags & US))
        else:
            entries.map_large(PAGE_OFFSET + physical, physical | flags | tables.nx)
    entries.map_large(0, P | RW | A | D)


def _map_init(entries: KernelEntries, image: KernelImage) -> None:
    """The code that only boot needs, at the addresses that it is linked to, in the fixmap."""
    routines = image.routines
    for linear in range(routines.init_start, routines.init_end, PAGE_SIZE):
        physical = image.init_load + linear - routines.init_start
        entries.map_page(linear, physical | P | RW | A | D)


def _boot_stacks(start: BootMemory, cpu: KernelCpu, entries: KernelEntries) -> None:
    """The stacks of a CPU without a task and of its interrupts, each above a page that is never there."""
    frames = start.take(f"boot stacks of CPU {cpu.index}", 2 * PAGE_SIZE)
    for number, stack in enumerate((cpu.idle, cpu.ipi)):
        linear = kstack_page(2 * cpu.index + number)
        entries.map_page(linear, frames + number * PAGE_SIZE | P | RW | A | D | G | entries.tables.nx)
        stack.stack_top, stack.frame = linear + PAGE_SIZE, frames // PAGE_SIZE + number


def _cpu_page(memory: PhysicalMemory, start: BootMemory, cpu: KernelCpu) -> None:
    """One page with GDT, TSS and their pseudo-descriptors."""
    page = start.take(f"GDT and TSS of CPU {cpu.index}", PAGE_SIZE)
    memory.declare(Reason.TABLE, page, PAGE_SIZE)
    gdt = [0] * (GDT_BYTES // 8)
    gdt[2] = _FLAT | 0x9A << 40
    gdt[3] = _FLAT | 0x92 << 40
    gdt[4] = _FLAT | 0xFA << 40
    gdt[5] = _FLAT | 0xF2 << 40
    gdt[9] = SegmentDescriptor(PAGE_OFFSET + page + TSS_OFFSET, TSS_BYTES - 1, FLAG_PRESENT | TYPE_TSS32 << 8).encode()
    tss = bytearray(TSS_BYTES)
    struct.pack_into("<II", tss, 4, kstack_page(2 * cpu.index) + PAGE_SIZE, 0x18)
    struct.pack_into("<H", tss, 102, TSS_BYTES)
    linear = PAGE_OFFSET + page
    descriptors = struct.pack("<HI2xHI", GDT_BYTES - 1, linear, 0, linear)
    memory.host_write(page, struct.pack(f"<{len(gdt)}Q", *gdt), Reason.TABLE)
    memory.host_write(page + TSS_OFFSET, bytes(tss), Reason.TABLE)
    memory.host_write(page + DESCRIPTORS_OFFSET, descriptors, Reason.TABLE)
    cpu.gdt, cpu.tss = page, page + TSS_OFFSET


def _start(cpu: KernelCpu, tables: PageTables, config: KernelConfig, image: KernelImage) -> None:
    """Run ``startup_32`` at its physical address; afterwards the CPU's state is every ring-0 context's template."""
    context = cpu.vcpu.context
    pae = config.paging == "pae"
    context.eax = cpu.cr3 = tables.cr3(tables.kernel_pgd)
    context.ebx = CR4_TSD | CR4_PSE | CR4_PGE | CR4_SSE | (CR4_PAE if pae else 0)
    context.ecx = EFER_NXE if tables.nx else 0
    context.edx = (CR0_PAGED & ~CR0_WP if config.broken("no-wp") else CR0_PAGED) | CR0_AM
    context.esi = PAGE_OFFSET + cpu.gdt + DESCRIPTORS_OFFSET
    context.edi = context.esi + 8
    context.ebp = TSS_SELECTOR
    context.esp = cpu.idle.stack_top
    context.eip = image.routines.startup_32 - image.routines.init_start + image.init_load
    exit_ = cpu.vcpu.run(1000)
    if type(exit_) is not Halt:
        raise BootFailed(f"CPU {cpu.index} did not boot: {exit_}")
    cpu.template.copy_from(context)


def _zones(
    ranges: list[tuple[int, int]], memory_start: int, lowmem: int, low_end: int = LOW_END
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Frame ranges (first, count) of low and high memory for the allocator, highmem from above 4 GB first."""
    low, high = [], []
    for start, size in ranges:
        end = start + size
        if start < KERNEL_LOAD:
            first, last = max(start, LOW_FIRST), min(end, low_end)
            if first < last:
                low.append((first // PAGE_SIZE, (last - first) // PAGE_SIZE))
            continue
        first = max(start, memory_start)
        if first < min(end, lowmem):
            low.append((first // PAGE_SIZE, (min(end, lowmem) - first) // PAGE_SIZE))
        if end > max(lowmem, start):
            first = max(start, lowmem)
            high.append((first // PAGE_SIZE, (end - first) // PAGE_SIZE))
    return low, high[::-1]
