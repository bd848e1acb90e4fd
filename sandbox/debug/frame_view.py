"""One frame: its ``struct page`` decoded, who has it, and every linear address that leads to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.table_dump import Mode, leaves
from sandbox.debug.target import Refused, Target
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.inspect.owner import holders
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.page import PG_BUDDY, PG_CACHE, PG_HEAD, PG_OPEN, STRUCT_PAGE_WORDS
from sandbox.x86.paging import PAGE_SHIFT, PAGE_SIZE

WORDS = ("flags", "count", "mapping", "index", "lru next", "lru prev", "private", "virtual")
Mapping = tuple[int, str, str]
"""Linear address, whose tables, flags of the entry."""


def mode_of(target: Target) -> Mode:
    """Paging as the CPU that is looked at has it."""
    context = target.context
    return Mode(context.cr0, context.cr4, context.efer)


def mappings(target: Target, pfn: int) -> Iterator[Mapping]:
    """Every page that leads to a frame: of each address space, of the kernel; for a ROM, of the present tables."""
    memory, mode = target.machine.memory, mode_of(target)
    for root, whose, start, end in _roots(target):
        for run in leaves(memory, mode, root):
            frames = (run.end - run.start) >> PAGE_SHIFT
            if run.frame is not None and run.frame <= pfn < run.frame + frames and start <= run.start < end:
                yield run.start + (pfn - run.frame << PAGE_SHIFT), whose, run.words


def _roots(target: Target) -> Iterator[tuple[int, str, int, int]]:
    """(CR3, whose, linear start and end of what is looked through)."""
    if not isinstance(target, KernelTarget):
        yield target.context.cr3, "the tables in CR3", 0, 1 << 32
        return
    kernel = target.kernel
    for mm in kernel.mmlist:
        pids = sorted(task.pid for task in kernel.tasks.values() if task.mm is mm)
        yield mm.cr3, " and ".join(f"task {pid}" for pid in pids) or "a process that begins or ends", 0, PAGE_OFFSET
    yield kernel.tables.cr3(kernel.tables.kernel_pgd), "the kernel", PAGE_OFFSET, 1 << 32


def mapping_lines(found: list[Mapping]) -> list[str]:
    """For people."""
    return [f"  {linear:08x}  {words}, {whose}" for linear, whose, words in found] or ["  at no linear address"]


def mapping_dicts(found: list[Mapping]) -> list[dict[str, Any]]:
    """For JSON."""
    return [{"linear": linear, "whose": whose, "flags": words} for linear, whose, words in found]


def struct_page(kernel: Kernel, pfn: int) -> dict[str, int]:
    """The words of a frame's structure, and where that is (physical).  Raises Refused where it has none."""
    memmap = kernel.memmap
    if not memmap.has_page(pfn):
        raise Refused(f"frame {pfn:#x} has no struct page")
    at = memmap.at(pfn)
    words = dict(zip(WORDS, memmap.words[at : at + STRUCT_PAGE_WORDS], strict=True))
    return {"at": memmap.physical(pfn), **words}


def owner(kernel: Kernel, pfn: int) -> str:
    """Whose a frame is, in words."""
    memmap = kernel.memmap
    if not memmap.has_page(pfn):
        return "not the allocator's: no struct page"
    flags = memmap.flags(pfn)
    if not flags & PG_OPEN:
        return _kept(kernel, pfn)
    if flags & PG_BUDDY:
        return f"free, the first of a block of {1 << struct_page(kernel, pfn)['index']}"
    if not memmap.count(pfn) and pfn in set(kernel.pgdat.free_list()):
        return "free"
    return holders(kernel, pfn)[0]


def _kept(kernel: Kernel, pfn: int) -> str:
    """What boot keeps, or what was never opened."""
    at = pfn << PAGE_SHIFT
    for name, start, end in kernel.reserved:
        if start <= at < end:
            return f"kept from boot on: {name}"
    waiting = any(first <= pfn < first + count for zone in kernel.pgdat.zones for first, count in zone.closed())
    return "free, not opened yet" if waiting else "reserved"


def page_lines(target: KernelTarget, pfn: int) -> tuple[list[str], dict[str, Any]]:
    """All of one frame.  Raises Refused where it has no structure."""
    kernel = target.kernel
    words = struct_page(kernel, pfn)
    flags, found = words["flags"], list(mappings(target, pfn))
    zone = next((zone.name for zone in kernel.pgdat.zones if zone.has(pfn)), "no zone")
    lines = [
        f"frame {pfn:#x}, physical {pfn << PAGE_SHIFT:#x}, {zone}; struct page at physical {words['at']:#x}",
        f"  flags {flags:08x}  {kernel.memmap.describe(pfn)}, age {kernel.memmap.age(pfn)}",
        "  " + "  ".join(f"{name} {words[name]:x}" for name in WORDS[1:]),
        f"  {owner(kernel, pfn)}",
        *([f"  {_cached(kernel, pfn)}"] if flags & PG_CACHE else []),
        *([f"  the first of a block of {1 << words['index']}"] if flags & PG_HEAD else []),
        "mapped",
        *mapping_lines(found),
    ]
    told = {
        "pfn": pfn, "zone": zone, **{name.replace(" ", "_"): value for name, value in words.items()},
        "flag_words": kernel.memmap.describe(pfn), "owner": owner(kernel, pfn), "mappings": mapping_dicts(found),
    }  # fmt: skip
    return lines, {"page": told}


def _cached(kernel: Kernel, pfn: int) -> str:
    space, index = kernel.pagecache.space_of(pfn)
    inode = space.inode()
    return f"page {index} of the cache of {'a file that is gone' if inode is None else inode.name or inode.ino}"


def who_lines(target: Target, linear: int) -> tuple[list[str], dict[str, Any]]:
    """What lies at a linear address, and the frame behind it."""
    places = _places(target, linear)
    physical = target.walk(linear).physical
    lines = [f"{linear:08x}", *(f"  {each}" for each in places)]
    told: dict[str, Any] = {"linear": linear, "physical": physical, "places": places, "owner": "", "mappings": []}
    if physical is None:
        return [*lines, "  not mapped"], {"who": told}
    pfn = physical >> PAGE_SHIFT
    told["owner"], found = holder(target, pfn), list(mappings(target, pfn))
    told["mappings"] = mapping_dicts(found)
    return [
        *lines, f"  frame {pfn:#x}, physical {physical:#x}: {told['owner']}", "mapped", *mapping_lines(found),
    ], {"who": told}  # fmt: skip


def is_frame(target: Target, pfn: int) -> bool:
    """A number that names a frame of RAM."""
    return target.machine.memory.is_ram(pfn << PAGE_SHIFT, PAGE_SIZE)


def holder(target: Target, pfn: int) -> str:
    """Whose a frame is, on any kind of target."""
    if isinstance(target, KernelTarget) and target.kernel.memmap.has_page(pfn):
        return owner(target.kernel, pfn)
    at = pfn << PAGE_SHIFT
    for start, device in target.machine.board.windows:
        if start <= at < start + device.window_bytes:
            return f"the device {device.name}"
    return "RAM" if target.machine.memory.is_ram(at, PAGE_SIZE) else "nothing answers there"


def _places(target: Target, linear: int) -> list[str]:
    """Symbol, area and region that an address lies in."""
    name = target.name_of(linear)
    found = [f"<{name}>"] if name else []
    if not isinstance(target, KernelTarget):
        return found
    system, kernel = target.system, target.kernel
    region = kernel.layout.region_of(linear)
    if region is not None:
        found.append(f"in the kernel's {region.name} {region.start:08x}-{region.end:08x}")
        found += [
            f"in the {area.kind} area {area.start:08x}-{area.end:08x}"
            for area in kernel.vmalloc.areas
            if area.start <= linear < area.end
        ]
        module = system.modules.at(linear)
        return found + ([] if module is None else [f"in the module {module.name}"])
    vma = target.mm.vmas.find(linear) if target.mm is not None else None
    if vma is not None and vma.start <= linear:
        found.append(f"in {vma.describe()}")
    elif target.mm is not None:
        found.append("in no area of the task")
    return found
