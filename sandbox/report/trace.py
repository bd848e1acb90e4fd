"""One clear line an event."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.image.disassemble import text_of
from sandbox.kernel.abi.signals import name_of as signal_name
from sandbox.kernel.base import events
from sandbox.kernel.mm.gfp import describe
from sandbox.machine.events import Event
from sandbox.x86.error_code import PageFaultCode

KINDS: dict[str, tuple[type[Event], ...]] = {
    "faults": (events.PageFault, events.Killed),
    "calls": (events.SystemCall,),
    "tasks": (events.TaskChange, events.TaskSwitch, events.Killed),
    "tlb": (events.TlbFlush,),
    "map": (events.MapChange, events.ModuleChange),
    "alloc": (events.PageAlloc,),
    "modules": (events.ModuleChange,),
}
"""What ``--trace`` takes."""

Paint = Callable[[str, str], str]
_STYLES = {"sigsegv": "red", "sigbus": "red", "oom-kill": "red", "fixup": "yellow", "cow-copy": "cyan"}


def fault_header() -> str:
    """The columns of a fault's line."""
    return (
        f"{'time':>9}  {'pid':>3}  {'eip':8}  {'instruction':34}  {'address':8}  {'error':26}  {'resolution':12}  cost"
    )


def fault_line(fault: events.PageFault, paint: Paint) -> str:
    """Time in blocks, EIP, instruction, address, error bits in words, resolution, blocks it took the kernel."""
    text = text_of(fault.code, fault.eip)
    return (
        f"{fault.time:>9}  {fault.pid:>3}  {fault.eip:08x}  {text[:34]:34}  {fault.address:08x}  "
        f"{PageFaultCode(fault.error_code).describe_at(fault.eip, fault.address):26}  "
        f"{paint(_STYLES.get(fault.resolution, 'green'), f'{fault.resolution:12}')}  {fault.blocks}"
    )


def event_line(event: Event, paint: Paint) -> str:
    """One line for any event that ``--trace`` may name."""
    if isinstance(event, events.PageFault):
        return fault_line(event, paint)
    if isinstance(event, events.Killed):
        return f"{event.time:>9}  {event.pid:>3}  {paint('red', f'killed by {signal_name(event.signal)}')}"
    if isinstance(event, events.SystemCall):
        given = ", ".join(f"{each:#x}" for each in event.arguments[:4])
        return f"{event.time:>9}  {event.pid:>3}  {event.name}({given}) = {event.result}"
    if isinstance(event, events.TaskChange):
        return f"{event.time:>9}  {event.pid:>3}  {event.what} {event.detail}".rstrip()
    if isinstance(event, events.TaskSwitch):
        return f"{event.time:>9}       CPU {event.cpu} goes on with task {event.next}"
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
    return f"{event.time:>9}  {event}"
