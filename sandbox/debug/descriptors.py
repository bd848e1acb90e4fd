"""The tables that a CPU's system registers name, decoded: GDT, LDT, IDT, TSS (SDM 3A, 2.4, 3.5, 6.10, 7.2).

Each function gives lines for people and the same as plain data.  What is read is memory as the CPU's own page tables
have it, from outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sandbox.debug.target import Target
from sandbox.engine.context import CpuContext, SegmentState
from sandbox.x86 import tss
from sandbox.x86.descriptors import (
    DESCRIPTOR_BYTES,
    FLAGS_MASK,
    TYPE_TSS16,
    TYPE_TSS16_BUSY,
    TYPE_TSS32,
    TYPE_TSS32_BUSY,
    Gate,
    SegmentDescriptor,
    Selector,
)
from sandbox.x86.masks import CR0_PE, VM
from sandbox.x86.registers import Cr0, Cr4, Efer
from sandbox.x86.vectors import describe

SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
WRAP = 0xFFFFFFFF
VECTORS = 256
Told = tuple[list[str], dict[str, Any]]

_TSS32 = {
    "link": tss.LINK, "esp0": tss.ESP0, "ss0": tss.SS0, "esp1": tss.ESP1, "ss1": tss.SS1, "esp2": tss.ESP2,
    "ss2": tss.SS2, "cr3": tss.CR3, "eip": tss.EIP, "eflags": tss.EFLAGS, "eax": tss.EAX, "ecx": tss.ECX,
    "edx": tss.EDX, "ebx": tss.EBX, "esp": tss.ESP, "ebp": tss.EBP, "esi": tss.ESI, "edi": tss.EDI, "es": tss.ES,
    "cs": tss.CS, "ss": tss.SS, "ds": tss.DS, "fs": tss.FS, "gs": tss.GS, "ldt": tss.LDT, "io map": tss.IO_MAP_BASE,
}  # fmt: skip
_SELECTORS = ("link", "ss0", "ss1", "ss2", "es", "cs", "ss", "ds", "fs", "gs", "ldt", "io map")
_TSS16 = {
    name: 2 * number
    for number, name in enumerate(
        "link sp0 ss0 sp1 ss1 sp2 ss2 ip flags ax cx dx bx sp bp si di es cs ss ds ldt".split()
    )
}
"""Offsets in the 16-bit TSS (figure 7-10); every field is a word."""
_ROWS_32 = (
    "link, cr3, eip, eflags", "esp0, ss0, esp1, ss1, esp2, ss2", "eax, ecx, edx, ebx", "esp, ebp, esi, edi",
    "es, cs, ss, ds, fs, gs, ldt, io map",
)  # fmt: skip
_ROWS_16 = (
    "link, ip, flags", "sp0, ss0, sp1, ss1, sp2, ss2", "ax, cx, dx, bx, sp, bp, si, di", "es, cs, ss, ds, ldt",
)  # fmt: skip


def table(target: Target, name: str) -> Told:
    """The descriptors of ``gdt`` or ``ldt`` that are not empty."""
    register = target.cpu.context.segment(f"{name}r")
    head = f"{name.upper()} at {register.base:08x}, limit {register.limit:04x}"
    if name == "ldt" and Selector.decode(register.selector).null:
        return ["no LDT: LDTR holds a null selector"], {name: None}
    lines, entries = [], []
    for index, quad in _quads(target, register):
        selector = Selector(index, name == "ldt", 0).encode()
        text = "(not mapped)" if quad is None else _descriptor(quad)
        if quad != 0:
            lines.append(f"  {selector:04x}  {text}")
            entries.append({"selector": selector, "entry": quad, "text": text})
    told = {"base": register.base, "limit": register.limit, "entries": entries}
    return [head, *(lines or ["  nothing but empty entries"])], {name: told}


def _quads(target: Target, register: SegmentState) -> Iterator[tuple[int, int | None]]:
    """(index, eight bytes), of those inside the limit; None where nothing is mapped, once for all behind it."""
    size = register.limit + 1 & -DESCRIPTOR_BYTES
    data = target.read(register.base, size, target.cpu.context.cr3)
    for at in range(0, len(data) - 7, DESCRIPTOR_BYTES):
        yield at // DESCRIPTOR_BYTES, int.from_bytes(data[at : at + DESCRIPTOR_BYTES], "little")
    if len(data) < size:
        yield len(data) // DESCRIPTOR_BYTES, None


def _descriptor(quad: int) -> str:
    gate = Gate.decode(quad)
    return SegmentDescriptor.decode(quad).describe() if gate is None else gate.describe()


def idt(target: Target) -> Told:
    """The gates of the IDT that are not empty; in real mode the vectors of its table of far pointers."""
    context = target.cpu.context
    register = context.segment("idtr")
    real = not context.cr0 & CR0_PE
    found = list(_vectors(target, register)) if real else list(_gates(target, register))
    rows = [(vector, entry, f"{text}{_named(target, entry, real)}") for vector, entry, text in found]
    what = "interrupt vectors (real mode)" if real else "IDT"
    lines = [f"{what} at {register.base:08x}, limit {register.limit:04x}", *_vector_lines(rows)]
    entries = [{"vector": vector, "entry": entry, "text": text} for vector, entry, text in rows]
    told = {"base": register.base, "limit": register.limit, "entries": entries}
    return lines + ["  nothing but empty entries"] * (not entries), {"idt": told}


def _vector_lines(rows: list[tuple[int, int | None, str]]) -> Iterator[str]:
    """Neighbours that are the same as one."""
    at = 0
    while at < len(rows):
        first, _, text = rows[at]
        count = 1
        while at + count < len(rows) and rows[at + count][::2] == (first + count, text):
            count += 1
        if count == 1:
            yield f"  {first:02x}     {text:62}  {describe(first)}".rstrip()
        else:
            yield f"  {first:02x}-{first + count - 1:02x}  {text}"
        at += count


def _gates(target: Target, register: SegmentState) -> Iterator[tuple[int, int | None, str]]:
    for vector, quad in _quads(target, register):
        if quad is None:
            yield vector, None, "(not mapped)"
        elif quad and vector < VECTORS:
            gate = Gate.decode(quad)
            yield vector, quad, "no gate: " + _descriptor(quad) if gate is None else gate.describe()


def _vectors(target: Target, register: SegmentState) -> Iterator[tuple[int, int, str]]:
    data = target.read(register.base, min(register.limit + 1, 4 * VECTORS), target.cpu.context.cr3)
    for at in range(0, len(data) - 3, 4):
        entry = int.from_bytes(data[at : at + 4], "little")
        if entry:
            yield at // 4, entry, f"to {entry >> 16:04x}:{entry & 0xFFFF:04x}"


def _named(target: Target, entry: int | None, real: bool) -> str:
    """`` <symbol>`` of a gate's handler, as far as its code segment begins at 0."""
    if entry is None or real:
        return ""
    gate = Gate.decode(entry)
    name = "" if gate is None else target.name_of(gate.offset)
    return f" <{name}>" if name else ""


def task_state(target: Target) -> Told:
    """The TSS that TR names, of either width, its fields and the ports that it opens."""
    context = target.cpu.context
    register = context.segment("tr")
    kind = register.flags >> 8 & 15
    if Selector.decode(register.selector).null:
        return ["no TSS: TR holds a null selector"], {"tss": None}
    wide = kind in (TYPE_TSS32, TYPE_TSS32_BUSY)
    if not wide and kind not in (TYPE_TSS16, TYPE_TSS16_BUSY):
        return [f"no TSS: TR holds a segment of type {kind}"], {"tss": None}
    data = target.read(register.base, min(register.limit + 1, 1 << 16), context.cr3)
    fields = _fields(data, wide)
    bits = 32 if wide else 16
    lines = [f"{bits}-bit TSS {register.selector:04x} at {register.base:08x}, limit {register.limit:04x}"]
    lines += _rows(fields, wide)
    open_ports = ports(data, fields.get("io map", 0), register.limit) if wide else ""
    lines += [f"  ports open to less privileged code: {open_ports}"] if wide else []
    told = {"selector": register.selector, "base": register.base, "limit": register.limit, "bits": bits}
    return lines, {"tss": {**told, "fields": fields, "ports": open_ports}}


def _fields(data: bytes, wide: bool) -> dict[str, int]:
    found = {}
    for name, at in (_TSS32 if wide else _TSS16).items():
        size = 2 if not wide or name in _SELECTORS else 4
        if at + size <= len(data):
            found[name] = int.from_bytes(data[at : at + size], "little")
    return found


def _rows(fields: dict[str, int], wide: bool) -> list[str]:
    """Rows of ``_ROWS`` in 80 columns: what goes together, side by side."""
    words = {
        name: f"{name} {value:0{8 if wide and name not in _SELECTORS else 4}x}" for name, value in fields.items()
    }  # fmt: skip
    rows = ([words[name] for name in row.split(", ") if name in words] for row in (_ROWS_32 if wide else _ROWS_16))
    return ["  " + "  ".join(row) for row in rows if row]


def ports(data: bytes, at: int, limit: int) -> str:
    """Ranges of ports whose bit is clear; the bitmap ends where the byte behind one is outside the limit."""
    last = min(limit, at + (1 << 13))
    if at < tss.TSS32_BYTES or at >= last:
        return "none, there is no bitmap"
    bits = int.from_bytes(data[at:last], "little")
    count = 8 * min(last - at, max(0, len(data) - at))
    allowed = [port for port in range(count) if not bits >> port & 1]
    runs: list[list[int]] = []
    for port in allowed:
        if runs and runs[-1][1] == port - 1:
            runs[-1][1] = port
        else:
            runs.append([port, port])
    return ", ".join(f"{a:x}" if a == b else f"{a:x}-{b:x}" for a, b in runs) or "none"


def segments(context: CpuContext) -> Told:
    """Segment registers with their hidden parts: what the CPU uses, whatever the tables say by now."""
    lines, told = [], {}
    real = not context.cr0 & CR0_PE or bool(context.eflags & VM)
    for name in (*SEGMENTS, "ldtr", "tr"):
        each = context.segment(name)
        if Selector.decode(each.selector).null and not (real and name in SEGMENTS):
            text = "null"
        elif real and name in SEGMENTS:
            text = f"{'virtual-8086' if context.eflags & VM else 'real'} mode, base {each.base:#010x}"
        else:
            text = SegmentDescriptor(each.base, each.limit, each.flags & FLAGS_MASK).describe()
        lines.append(f"{name:5} {each.selector:04x}  {text}")
        told[name] = {"selector": each.selector, "base": each.base, "limit": each.limit, "text": text}
    for name in ("gdtr", "idtr"):
        each = context.segment(name)
        lines.append(f"{name:5}       base {each.base:#010x}, limit {each.limit:#06x}")
        told[name] = {"base": each.base, "limit": each.limit}
    return lines, {"segments": told}


def control(context: CpuContext) -> Told:
    """CR0 to CR4 and EFER, bit by bit."""
    values = {"cr0": context.cr0, "cr2": context.cr2, "cr3": context.cr3, "cr4": context.cr4, "efer": context.efer}
    names = {"cr0": Cr0, "cr4": Cr4, "efer": Efer}
    lines, told = [], {}
    for name, value in values.items():
        words = list(names[name](value & WRAP).names()) if name in names else []
        lines.append(f"{name:4}  {value & WRAP:08x}  {' '.join(words)}".rstrip())
        told[name] = {"value": value & WRAP, "bits": words}
    return lines, {"control": told}
