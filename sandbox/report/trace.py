"""One clear line an event."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sandbox.image.disassemble import text_of
from sandbox.kernel.abi.signals import name_of as signal_name
from sandbox.kernel.base import events
from sandbox.kernel.mm.gfp import describe
from sandbox.machine.events import Event, PortAccess, TlbMiss
from sandbox.report.width import cut
from sandbox.x86.error_code import PageFaultCode
from sandbox.x86.paging import A, D

KINDS: dict[str, tuple[type[Event], ...]] = {
    "faults": (events.PageFault, events.Killed),
    "calls": (events.SystemCall,),
    "tasks": (events.TaskChange, events.TaskSwitch, events.Killed),
    "tlb": (events.TlbFlush,),
    "races": (events.RaceSwitch,),
    "map": (events.MapChange, events.ModuleChange),
    "alloc": (events.PageAlloc,),
    "modules": (events.ModuleChange,),
    "ports": (PortAccess,),
    "walk": (TlbMiss,),
}
"""What ``--trace`` takes."""

Paint = Callable[[str, str], str]
_STYLES = {"sigsegv": "red", "sigbus": "red", "oom-kill": "red", "fixup": "yellow", "cow-copy": "cyan"}


WIDE = 134
"""Columns of a fault's line with nothing left out."""
_NARROW_RIGHT = 41
"""Columns of what stands right of the instruction where there is less room, with the spaces between."""
_LEAST_TEXT = 8


def _fault_columns(row: Sequence[str], columns: int, paint: Callable[[str], str] = str) -> str:
    """Number, time, pid, EIP, instruction, address, error, resolution and cost, aligned."""
    number, when, pid, eip, text, address, error, resolution, cost = row
    if columns >= WIDE:
        return (
            f"{number:>5}  {when:>9}  {pid:>3}  {eip:8}  {cut(text, 34):34}  {address:8}  {error:26}  "
            f"{paint(f'{resolution:12}')}  {cost}"
        )
    text = text.replace("dword ptr ", "").replace(" ptr ", " ")
    error = error.replace("not-present", "absent").replace("protection", "prot")
    left = f"{number:>4} {when:>7} {pid:>3} {eip:8}"
    room = max(columns - len(left) - _NARROW_RIGHT, _LEAST_TEXT)
    return f"{left} {cut(text, room):{room}} {address:8} {cut(error, 17):17} {paint(resolution)}"


def fault_header(columns: int = WIDE) -> str:
    """The columns of a fault's line."""
    names = ("no.", "time", "pid", "eip", "instruction", "address", "error", "resolution", "cost")
    return cut(_fault_columns(names, columns), columns)


def fault_line(fault: events.PageFault, paint: Paint, columns: int = WIDE) -> str:
    """Its number (as ``explain`` and ``--stats`` count), time in blocks, ..., the blocks that it took the kernel.

    With fewer than ``WIDE`` columns without the cost, and with shorter words.
    """
    words = PageFaultCode(fault.error_code).describe_at(fault.eip, fault.address)
    row = (
        *(str(each) for each in (fault.number, fault.time, fault.pid)),
        f"{fault.eip:08x}", text_of(fault.code, fault.eip), f"{fault.address:08x}", words, str(fault.resolution),
        str(fault.blocks),
    )  # fmt: skip
    return _fault_columns(row, columns, lambda text: paint(_STYLES.get(fault.resolution, "green"), text))


def event_line(event: Event, paint: Paint, columns: int = WIDE) -> str:
    """One line for any event that ``--trace`` may name."""
    if isinstance(event, events.PageFault):
        return fault_line(event, paint, columns)
    if isinstance(event, events.Killed):
        return f"{event.time:>9}  {event.pid:>3}  {paint('red', f'killed by {signal_name(event.signal)}')}"
    if isinstance(event, events.SystemCall):
        given = ", ".join(f"{each:#x}" for each in event.arguments[:4])
        return f"{event.time:>9}  {event.pid:>3}  {event.name}({given}) = {event.result}"
    if isinstance(event, events.TaskChange):
        return f"{event.time:>9}  {event.pid:>3}  {event.what} {event.detail}".rstrip()
    if isinstance(event, events.TaskSwitch):
        return f"{event.time:>9}       CPU {event.cpu} goes on with task {event.next}"
    if isinstance(event, events.RaceSwitch):
        return f"{event.time:>9}       CPU {event.cpu} goes on behind {event.name}:{event.times}"
    if isinstance(event, events.TlbFlush):
        where = f" {event.address:08x}" if event.scope == "page" else ""
        return f"{event.time:>9}       CPU {event.cpu} flushes {event.scope}{where}"
    if isinstance(event, events.MapChange):
        letters = "".join(letter if event.prot & bit else "-" for letter, bit in (("r", 1), ("w", 2), ("x", 4)))
        return f"{event.time:>9}  {event.pid:>3}  {event.what} {event.start:08x}-{event.end:08x} {letters}"
    if isinstance(event, events.PageAlloc):
        what = f"{event.what:5} {1 << event.order} frame{'s' * (event.order > 0)}"
        level = f"  {describe(event.gfp)}" if event.what == "alloc" else ""
        return f"{event.time:>9}       {what} from {event.pfn:#x}{level}"
    if isinstance(event, events.ModuleChange):
        where = f"{event.base:08x}-{event.base + event.size:08x}"
        return f"{event.time:>9}       {event.what} module {event.name} {where}"
    if isinstance(event, PortAccess):
        return f"{event.time:>9}       {port_text(event)}"
    if isinstance(event, TlbMiss):
        return f"{event.time:>9}       {walk_text(event)}"
    return f"{event.time:>9}  {event}"


def walk_text(miss: TlbMiss) -> str:
    """``CPU 0 user store 0804a000: [1008008] 100f067, [100f250] 0 fault``: each entry's address and value."""
    who, what = "user" if miss.user else "kernel", ("load", "store", "fetch")[miss.access]
    marks = dict(miss.marks)
    walked = [f"[{at:x}] {entry:x}{_marked(entry, marks.get(at))}" for at, entry in miss.entries]
    if miss.physical is not None and not miss.size:
        return f"CPU {miss.cpu} {who} {what} {miss.linear:08x}: stale -> {miss.physical:x}"
    if miss.physical is None:
        end = "fault"
    else:
        end = f"-> {miss.physical:x}" + (f" of a {miss.size >> 10} KB page" if miss.size > 4096 else "")
    return f"CPU {miss.cpu} {who} {what} {miss.linear:08x}: {', '.join(walked) or 'paging is off'} {end}"


def _marked(entry: int, stored: int | None) -> str:
    """The bits that a walk set."""
    fresh = 0 if stored is None else stored & ~entry
    return "".join(f" +{name}" for name, bit in (("A", A), ("D", D)) if fresh & bit)


def port_text(access: PortAccess) -> str:
    """``out 0x3f8, 0x41  serial``: port, value in as many digits as it has bytes, who answered."""
    value = f"{access.value:#0{2 + 2 * access.size}x}"
    what = f"out {access.port:#x}, {value}" if access.write else f"in {access.port:#x} = {value}"
    return f"{what}  {access.device or 'nobody answers'}"
