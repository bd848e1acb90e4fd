"""A stopped machine as lines of text; nothing here changes the machine."""

from __future__ import annotations

from typing import Any

from sandbox.debug.fold import WIDTH, wrapped
from sandbox.debug.stops import Stop
from sandbox.debug.target import Target
from sandbox.engine.context import CpuContext
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.main import System
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.pte import is_mapped
from sandbox.kernel.mm.vma import Vma
from sandbox.kernel.mm.vmalloc import Area
from sandbox.x86.registers import Eflags


def registers(context: CpuContext) -> list[str]:
    """General registers, EIP, flags, segments, control registers."""
    general = {name: value & 0xFFFFFFFF for name, value in context.general().items()}
    names = list(general)
    flags = context.eflags
    return [
        "  ".join(f"{name} {general[name]:08x}" for name in names[:4]),
        "  ".join(f"{name} {general[name]:08x}" for name in names[4:]),
        f"eip {context.eip:08x}  eflags {flags:08x}  " + " ".join(Eflags(flags).names()) + f"  cpl {context.cpl}",
        "  ".join(f"{name} {context.segment(name).selector:04x}" for name in ("cs", "ss", "ds", "es", "fs", "gs")),
        f"cr0 {context.cr0:08x}  cr2 {context.cr2:08x}  cr3 {context.cr3:08x}  cr4 {context.cr4:08x}",
    ]


def stop_lines(target: Target, stop: Stop) -> list[str]:
    """A stop: why, who, when, and the instruction that comes next."""
    if stop.ended:
        return wrapped([stop.headline])
    who = f"task {stop.pid}" if stop.pid else f"CPU {stop.moment.cpu}"
    where = f", CPU {stop.moment.cpu}" if stop.pid and len(target.machine.cpus) > 1 else ""
    line = target.source_at(stop.moment.eip)
    text = [] if line is None else [f"{line.place()}  {(line.text() or '').strip()}".rstrip()]
    place = f"{who}{where}, moment {stop.moment.text()}"
    why = [f"{stop.headline}, {place}"] if stop.headline else [place]
    if len(why[0]) > WIDTH:
        why = [*wrapped([stop.headline]), place]
    return [*why, *text, *wrapped(code_lines(target, stop.moment.eip))]


def code_lines(target: Target, address: int, count: int = 1) -> list[str]:
    """Instructions from a linear address on, the first marked."""
    lines = []
    for number, each in enumerate(target.code(address, count)):
        mark = "->" if number == 0 else "  "
        name = target.name_of(each.address)
        lines.append(f"{mark} {each.address:08x}{f' <{name}>' if name else '':20}  {each.text}")
    return lines or [f"-> {address:08x}  (not mapped)"]


def memory_lines(data: bytes, address: int, size: int, missing: str = "(not mapped)") -> list[str]:
    """Bytes in rows of 16 with their characters; the end of what there is, where that is short."""
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{address + at:08x}  {row.hex(' '):47}  {text}")
    if len(data) < size:
        lines.append(f"{address + len(data):08x}  {missing}")
    return lines


def map_lines(system: System, mm: Mm | None) -> list[str]:
    """The task's areas with their resident pages, then the kernel's regions."""
    lines, kernel = [], system.kernel
    if mm is not None:
        for vma in mm.vmas:
            resident = _resident(kernel, mm, vma)
            lines.append(f"{vma.describe():58} {resident:>6} of {vma.size >> 12} pages")
        lines.append(f"brk {mm.vmas.brk:08x}")
        lines.append("")
    for region in kernel.layout.regions:
        lines.append(f"{region.start:08x}-{region.end:08x}  {region.size >> 20:>4} MB  {region.name}")
        lines += [area_line(system, area) for area in kernel.vmalloc.areas if region.start <= area.start < region.end]
    return lines


def map_dict(system: System, mm: Mm | None) -> dict[str, Any]:
    """The same for JSON: linear addresses [start, end), resident pages, and what lies in a region of the kernel."""
    kernel = system.kernel
    return {
        "brk": None if mm is None else mm.vmas.brk,
        "areas": [] if mm is None else _area_dicts(kernel, mm),
        "regions": [
            {
                "name": region.name,
                "start": region.start,
                "end": region.end,
                "areas": [
                    {"start": area.start, "end": area.end, "text": area_line(system, area).strip()}
                    for area in kernel.vmalloc.areas
                    if region.start <= area.start < region.end
                ],
            }
            for region in kernel.layout.regions
        ],
    }


def _resident(kernel: Kernel, mm: Mm, vma: Vma) -> int:
    """Pages of an area that have a frame."""
    return sum(1 for _, entry in kernel.tables.user_ptes(mm.pgd, vma.start, vma.end) if is_mapped(entry))


def _area_dicts(kernel: Kernel, mm: Mm) -> list[dict[str, Any]]:
    found = []
    for vma in mm.vmas:
        resident = _resident(kernel, mm, vma)
        found.append({"start": vma.start, "end": vma.end, "text": vma.describe(), "resident": resident})
    return found


def area_line(system: System, area: Area) -> str:
    """An area of vmalloc space; behind each lies a page that is never there."""
    module = system.modules.at(area.start)
    what = f"module {module.name}, in use {system.modules.use_count(module)}" if module is not None else area.kind
    if not area.owned:
        what += f"  physical {area.frames[0] << 12:08x}"
    return f"  {area.start:08x}-{area.end:08x}  {len(area.frames):>5} pages  {what}"
