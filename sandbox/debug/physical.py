"""Physical memory of a stopped machine as text: zones, free blocks, who has which frame, and a map of it all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mmzone import Zone
from sandbox.kernel.mm.page import PG_CACHE, PG_OPEN, PG_SLAB, PG_TABLE
from sandbox.kernel.mm.pte import is_mapped
from sandbox.kernel.mm.sparse import SECTION_BITS, model_costs
from sandbox.machine.memory import ram_ranges
from sandbox.x86.paging import PAGE_SIZE

COLUMNS, ROWS = 64, 24
LEGEND = {
    ".": "free", "-": "free, not opened yet", "K": "kernel image, what boot kept", "M": "mem_map", "T": "page tables",
    "S": "kmalloc", "V": "vmalloc and modules", "C": "page cache", "U": "programs", "P": "other pages of the kernel",
    "R": "reserved: holes, excluded ranges", "D": "a device answers", " ": "nothing there",
}  # fmt: skip
KINDS = {
    ".": "free", "-": "unopened", "K": "kernel", "M": "mem_map", "T": "page tables", "S": "kmalloc", "V": "vmalloc",
    "C": "page cache", "U": "programs", "P": "other", "R": "reserved", "D": "device",
}  # fmt: skip
"""The same for JSON, without what is not there."""


MODELS_WIDE = 87
"""Columns of the table of memory models with nothing left out."""


def frame_lines(kernel: Kernel, columns: int = 1000) -> list[str]:
    """Zones, then the map, then what boot reserved."""
    zones = zone_lines(kernel)
    if len(zones[0]) > columns:
        zones = zone_lines(kernel, narrow=True)
    lines = [*zones, "", *map_lines(kernel), "", "reserved at boot"]
    for name, start, end in _merged(kernel.reserved):
        lines.append(f"  {start:08x}-{end:08x}  {(end - start) >> 10:>7} KB  {name}")
    return lines


def frame_dict(kernel: Kernel) -> dict[str, Any]:
    """The same for JSON, in frames; ``blocks`` by order, ranges as physical [start, end)."""
    frames = kernel.pgdat
    least, low, high = kernel.page_alloc.marks
    zones = [
        {
            "name": zone.name,
            "frames": zone.total,
            "free": frames.zone_free(zone),
            "unopened": zone.waiting,
            "on_cpus": sum(len(each) for each in frames.pcp_frames(zone)),
            "blocks": [len(listed) for listed in zone.lists],
        }
        for zone in frames.zones
        if zone.total
    ]
    reserved = [{"name": name, "start": start, "end": end} for name, start, end in _merged(kernel.reserved)]
    return {
        "zones": zones,
        "marks": {"min": least, "low": low, "high": high},
        "kmalloc": kernel.kmalloc.pages,
        "vmalloc": _vmalloc_frames(kernel),
        "page_cache": len(kernel.pagecache),
        "map": [
            {"start": first * PAGE_SIZE, "end": end * PAGE_SIZE, "kind": KINDS[letter]}
            for first, end, letter in _Kinds(kernel).runs()
        ],
        "reserved": reserved,
    }


def _vmalloc_frames(kernel: Kernel) -> int:
    return sum(len(area.frames) for area in kernel.vmalloc.areas if area.owned)


# -- zones -----------------------------------------------------------------------------------------------------------


def zone_lines(kernel: Kernel, narrow: bool = False) -> list[str]:
    """A line a zone: totals, blocks by order, and how much of what is free is in blocks too small for the largest.

    ``narrow`` has the blocks in a table of their own, in 80 columns.
    """
    frames = kernel.pgdat
    heads = "".join(f"{1 << order:>6}" for order in range(frames.orders))
    totals = [f"{'zone':8}{'frames':>11}{'free':>11}{'unopened':>11}{'CPUs':>6}"]
    blocks, shares = [f"blocks of{heads}" + ("" if narrow else " frames")], ["fragmented"]
    for zone in frames.zones:
        if zone.total:
            hot = sum(len(each) for each in frames.pcp_frames(zone))
            totals.append(f"{zone.name:8}{zone.total:>11,}{frames.zone_free(zone):>11,}{zone.waiting:>11,}{hot:>6}")
            blocks.append(f"{zone.name if narrow else '':9}" + "".join(f"{len(listed):>6}" for listed in zone.lists))
            shares.append(_fragmented(zone, hot))
    if narrow:
        lines = [f"{total}  {share:>10}" for total, share in zip(totals, shares, strict=True)] + blocks
    else:
        wide = len(blocks[0])
        rows = zip(totals, blocks, shares, strict=True)
        lines = [f"{total}  {block:{wide}}   {share:>10}" for total, block, share in rows]
    pages = kernel.page_alloc
    least, low, high = pages.marks
    lines.append(
        f"reserve {least} frames (low {low}, high {high}); kmalloc holds {kernel.kmalloc.pages}, "
        f"vmalloc {_vmalloc_frames(kernel)}, the page cache {len(kernel.pagecache)}"
    )
    return lines


def _fragmented(zone: Zone, hot: int) -> str:
    """Share of the free frames that no request for a largest block can use."""
    free = zone.listed + zone.waiting + hot
    usable = (len(zone.lists[-1]) << zone.orders - 1) + zone.waiting
    return f"{100 * (free - usable) / free:.1f} %" if free else "-"


# -- the map ---------------------------------------------------------------------------------------------------------


def map_lines(kernel: Kernel) -> list[str]:
    """A letter a cell: capital where all of it is one kind, small where it is only the most of several."""
    kinds = _Kinds(kernel)
    last = max([kernel.memory.end >> 12, *(end for _, end in kinds.devices)])
    spans = [(start >> 12, start + size >> 12) for start, size, _ in kernel.memory.ranges]
    ram = sum(end - start for start, end in spans)
    cell = 1
    while ram > cell * COLUMNS * ROWS:
        cell *= 2
    lines = [f"physical memory, {cell * 4} KB a letter" if cell < 256 else f"physical memory, {cell >> 8} MB a letter"]
    row, seen = cell * COLUMNS, set()
    at = shown_to = 0
    while at < last:
        text = "".join(kinds.letter(first, first + cell) for first in range(at, at + row, cell))
        if not text.strip():
            at = kinds.next_start(at + row, row)
            continue
        if at > shown_to:
            lines.append(f"           … {_size((at - shown_to) * PAGE_SIZE)} of nothing")
        lines.append(f"  {at << 12:09x}  {text.rstrip()}")
        seen |= set(text.upper())
        at = shown_to = at + row
    shown = [f"{letter} {meaning}" for letter, meaning in LEGEND.items() if letter in seen and letter != " "]
    for number in range(0, len(shown), 4):
        lines.append("  " + "   ".join(shown[number : number + 4]))
    lines.append("  a small letter: the most of several kinds")
    return lines


class _Kinds:
    """Whose a frame is."""

    def __init__(self, kernel: Kernel) -> None:
        self._memmap = kernel.memmap
        self._boot = [
            (
                start >> 12,
                end >> 12,
                "M" if "mem_map" in name or name == "mem_section" else "T" if "table" in name else "K",
            )
            for name, start, end in kernel.reserved
        ]
        self.devices = [
            (start >> 12, start + device.window_bytes >> 12)
            for start, device in kernel.machine.board.windows
            if device.name != "open bus"
        ]
        self._ram = [(start >> 12, start + size >> 12) for start, size, _ in kernel.memory.ranges]
        self._unopened = [(first, first + count) for zone in kernel.pgdat.zones for first, count in zone.closed()]
        self._known = dict.fromkeys(kernel.pgdat.free_list(), ".")
        self._known.update((pfn, "V") for area in kernel.vmalloc.areas if area.owned for pfn in area.frames)
        for start, area in kernel.kmalloc.areas.items():
            first = start - PAGE_OFFSET >> 12
            self._known.update((pfn, "S") for pfn in range(first, first + (1 << area.order)))
        tables = kernel.tables
        self._known.update(
            (tables.pte_pfn(entry), "U")
            for mm in kernel.mmlist
            for _, entry in tables.user_ptes(mm.pgd, 0, PAGE_OFFSET)
            if is_mapped(entry) and not kernel.memmap.reserved(tables.pte_pfn(entry))
        )

    def letter(self, first: int, end: int) -> str:
        """For the frames [first, end)."""
        counts: Counter[str] = Counter()
        at = first
        while at < end:
            bulk = self._bulk(at, end)
            if bulk is not None:
                letter, stop = bulk
            else:
                letter, stop = self._single(at), at + 1
            counts[letter] += stop - at
            at = stop
        counts.pop(" ", None)
        if not counts:
            return " "
        if len(counts) == 1:
            return next(iter(counts))
        busy = {letter: count for letter, count in counts.items() if letter not in ".-"}
        return max(busy or counts, key=lambda each: counts[each]).lower()

    def runs(self) -> Iterator[tuple[int, int, str]]:
        """Frames [first, end) of one kind and its letter, by address; where nothing is there is none."""
        begun, kind = 0, " "
        at, last = 0, max(end for _, end in (*self._ram, *self.devices))
        while at < last:
            letter, stop = self._bulk(at, last) or (self._single(at), at + 1)
            if letter != kind:
                if kind != " ":
                    yield begun, at, kind
                begun, kind = at, letter
            at = stop
        if kind != " ":
            yield begun, last, kind

    def next_start(self, at: int, row: int) -> int:
        """The row, not before ``at``, in which something begins or goes on."""
        ahead = [max(first, at) for first, end in (*self._ram, *self.devices) if end > at]
        return min(ahead, default=at) // row * row

    def _bulk(self, at: int, end: int) -> tuple[str, int] | None:
        """What a run of frames is that needs no look at each."""
        for letter, spans in (("D", self.devices), ("-", self._unopened)):
            for first, stop in spans:
                if first <= at < stop:
                    return letter, min(stop, end)
        if not any(first <= at < stop for first, stop in self._ram):
            nearest = min((first for first, _ in (*self._ram, *self.devices) if first > at), default=end)
            return " ", min(nearest, end)
        return None

    def _single(self, pfn: int) -> str:
        for first, stop, letter in self._boot:
            if first <= pfn < stop:
                return letter
        known = self._known.get(pfn)
        if known == "U" or known is None:
            flags = self._memmap.flags(pfn) if self._memmap.has_page(pfn) else 0
            if flags & PG_TABLE:
                return "T"
            if flags & PG_CACHE:
                return "C"
            if flags & PG_SLAB:
                return "S"
            return known or ("P" if flags & PG_OPEN else "R")
        return known


def _merged(reserved: list[tuple[str, int, int]]) -> Iterator[tuple[str, int, int]]:
    """Neighbours of one name as one."""
    last: tuple[str, int, int] | None = None
    for name, start, end in reserved:
        if last is not None and last[0] == name and last[2] == start:
            last = name, last[1], end
            continue
        if last is not None:
            yield last
        last = name, start, end
    if last is not None:
        yield last


# -- what the memory models cost -------------------------------------------------------------------------------------

SIZES = (16 << 20, 64 << 20, 256 << 20, 1 << 30, 2 << 30, 4 << 30, 16 << 30, 62 << 30)


def model_lines(paging: str, section: str, sizes: tuple[int, ...] = SIZES, *, narrow: bool = False) -> list[str]:
    """Kernel addresses and RAM that each memory model takes, by size of RAM (post 003's concern)."""
    names = ("flatmem", "sparsemem", "vmemmap")
    left, right = (12, 11) if narrow else (14, 12)
    lines = [
        f"{'':>9}" + "".join(f"{name:^{left + right}}" for name in names),
        f"{'RAM':>9}" + "".join(f"{'addresses':>{left}}{'of it RAM':>{right}}" for _ in names),
    ]
    for size in sizes:
        if paging == "legacy" and size > 2 << 30:
            continue
        cells = ""
        for cost in model_costs(ram_ranges(size), SECTION_BITS[section], 8 if paging == "pae" else 4):
            cells += f"{_size(cost.addresses):>{left}}{_size(cost.ram):>{right}}"
        lines.append(f"{_size(size):>9}{cells}")
    return lines


def _size(size: int) -> str:
    for shift, unit in ((30, "GB"), (20, "MB"), (10, "KB")):
        if size >= 1 << shift:
            return f"{size / (1 << shift):.4g} {unit}"
    return f"{size} B"
