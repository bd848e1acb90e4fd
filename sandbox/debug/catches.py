"""What can be caught: the machine's events by the words that a person uses, and how each is told in a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.debug.target import Refused
from sandbox.kernel.base import events as kernel
from sandbox.kernel.mm.fault import Resolution
from sandbox.machine import events as machine
from sandbox.records import dataclass, fields
from sandbox.x86.error_code import PageFaultCode
from sandbox.x86.vectors import describe

FAULT = "fault"
"""A page fault, before it is answered."""
CR3 = "cr3"
"""A load of CR3 by an instruction, behind it."""
MODE = "mode"
"""A CPU's first instruction in another mode."""
BESIDE = (FAULT, CR3, MODE)
"""Words that are no events of the machine."""
MODES = {"ring": 3, "protected": 1 << 7, "vm86": 1 << 17, "paging": 1 << 31}
"""What changes of a mode (``Cpu.mode``) by the words that a person uses."""


def mode_line(before: int, now: int) -> str:
    """What has changed between two modes."""
    changed = [word for word, mask in MODES.items() if (before ^ now) & mask and word != "ring"]
    words = [f"{word} {'on' if now & MODES[word] else 'off'}" for word in changed]
    if (before ^ now) & 3:
        words.append(f"ring {before & 3} to {now & 3}")
    return f"mode: {', '.join(words)}"


@dataclass(frozen=True, slots=True)
class Catch:
    """One word: the events it means, which of them, and what a line says of one.

    ``where`` says of what kinds of target; ``argument`` what may follow the word.
    """

    word: str
    about: str
    events: tuple[type[machine.Event], ...]
    tell: Callable[[Any], str]
    where: tuple[str, ...] = ("program", "module")
    argument: str = ""
    selects: Callable[[Any, str], bool] = lambda event, argument: True
    key: object = None
    """What the emitter knows of the events that it selects (``EventBus.wants``)."""


def _named_or_numbered(name: str, number: int, wanted: str) -> bool:
    return wanted in (name, str(number)) or wanted == f"{number:#x}"


def _fault_line(event: kernel.PageFault) -> str:
    words = PageFaultCode(event.error_code).describe_at(event.eip, event.address)
    return f"fault {event.number} at {event.address:08x}, {words}, answered: {event.resolution}"


def _task_change(word: str, about: str, *also: str) -> Catch:
    return Catch(
        word, about, (kernel.TaskChange,), lambda event: f"task {event.pid}: {event.what} {event.detail}".rstrip(),
        selects=lambda event, argument: event.what in (word, *also),
    )  # fmt: skip


_ALL = ("program", "module", "rom")
_ANSWERED = "a page fault that was answered so"
_TABLE = (
    Catch(
        "syscall", "a system call, before it is made", (kernel.CallEntered,),
        lambda e: f"{e.name}({', '.join(f'{each:#x}' for each in e.arguments)})", argument="[NAME]",
        selects=lambda e, wanted: _named_or_numbered(e.name, e.number, wanted),
    ),
    Catch(
        "sysret", "a system call when it returns", (kernel.SystemCall,), lambda e: f"{e.name} = {e.result}",
        argument="[NAME]", selects=lambda e, wanted: _named_or_numbered(e.name, e.number, wanted),
    ),
    Catch(
        "signal", "a signal that is about to be delivered", (kernel.SignalDelivered,),
        lambda e: f"signal {e.signal} to task {e.pid}, code {e.code}", argument="[NUMBER]",
        selects=lambda e, wanted: wanted == str(e.signal),
    ),
    Catch(
        "flush", "an invalidation of the TLB", (kernel.TlbFlush,), lambda e: f"flush of {_flushed(e)}",
        argument="[page|space|all]", selects=lambda e, wanted: e.scope == wanted,
    ),
    Catch("switch", "a CPU takes another task", (kernel.TaskSwitch,), lambda e: f"task {e.previous} to {e.next}"),
    Catch(
        "map", "an area came, went or changed", (kernel.MapChange,),
        lambda e: f"{e.what} {e.start:08x}-{e.end:08x}", argument="[WHAT]", selects=lambda e, wanted: e.what == wanted,
    ),
    Catch(
        "frame", "frames were allocated or freed", (kernel.PageAlloc,),
        lambda e: f"{e.what} of {1 << e.order} frames from {e.pfn:#x} on", argument="[WHAT]",
        selects=lambda e, wanted: e.what == wanted,
    ),
    Catch(
        "module", "a module was loaded or unloaded", (kernel.ModuleChange,),
        lambda e: f"{e.what} of {e.name} at {e.base:08x}", argument="[NAME]",
        selects=lambda e, wanted: e.name == wanted,
    ),
    _task_change("fork", "a task was made", "vfork", "clone"), _task_change("exec", "a program was executed"),
    _task_change("exit", "a task has ended"),
    Catch(
        "trap", "an exception or software interrupt, before its delivery", (machine.TrapTaken,),
        lambda e: f"{describe(e.vector)}" + (f", error code {e.error_code:#x}" if e.error_code else ""), ("rom",),
        "[VECTOR]", lambda e, wanted: wanted == str(e.vector) or wanted == f"{e.vector:#x}",
    ),
    Catch(
        "delivery", "a vector went through the IDT", (machine.Delivery,),
        lambda e: f"{describe(e.vector)} to {e.to_cs:04x}:{e.to_eip:08x}", ("rom",), "[VECTOR]",
        lambda e, wanted: wanted == str(e.vector) or wanted == f"{e.vector:#x}",
    ),
    Catch("cpu", "another CPU's turn", (machine.CpuSwitch,), lambda e: f"CPU {e.previous} to {e.cpu}", ("rom",)),
    Catch(
        "port", "IN or OUT", (machine.PortAccess,),
        lambda e: f"{'out' if e.write else 'in'} {e.port:#x}, {e.size} bytes, {e.value:#x}", _ALL,
    ),
    Catch(
        "mmio", "a device answered a load or store", (machine.MmioAccess,),
        lambda e: f"{'store' if e.write else 'load'} at {e.physical:#x}, {e.size} bytes, {e.value:#x}", _ALL,
    ),
    Catch(
        "dma", "a device stored into RAM", (machine.DmaTransfer,),
        lambda e: f"{e.size} bytes at {e.physical:#x} by {e.device}", _ALL,
    ),
    Catch(
        "ipi", "a CPU sends an interrupt to another", (machine.InterProcessorInterrupt,),
        lambda e: f"{e.what} interrupt of CPU {e.cpu} to CPU {e.target}" + (f", {e.vector:#x}" if e.vector else ""),
        _ALL, "[WHAT|VECTOR]",
        lambda e, wanted: _named_or_numbered(e.what, e.vector, wanted),
    ),
    Catch("irq", "a device asks for an interrupt", (machine.DeviceInterrupt,), lambda e: f"vector {e.vector:#x}", _ALL),
    *(
        Catch(
            str(kind), _ANSWERED, (kernel.PageFault,), _fault_line,
            selects=lambda event, argument, kind=kind: event.resolution == kind,  # type: ignore[misc]
            key=kind,
        )
        for kind in Resolution
    ),
)  # fmt: skip
CATCHES = {each.word: each for each in _TABLE}
_INSIDE = (
    machine.PortAccess, machine.MmioAccess, machine.DmaTransfer, machine.DeviceInterrupt,
    machine.InterProcessorInterrupt,
)  # fmt: skip


def comes_inside(word: str) -> bool:
    """What a catch is told of comes while the engine is at work: a device answers an instruction."""
    return word in CATCHES and any(issubclass(each, _INSIDE) for each in CATCHES[word].events)


def _flushed(event: kernel.TlbFlush) -> str:
    return f"page {event.address:08x}" if event.scope == "page" else event.scope


FIELDS = {
    FAULT: ("number", "address", "error_code", "write", "user", "protection", "fetch", "access"),
    CR3: ("old", "new", "eip", "cpu"),
    MODE: ("before", "mode", "ring"),
}


def fields_of(word: str, kind: str) -> tuple[str, ...]:
    """What a condition of a catch may ask for besides registers.  Raises Refused, as ``catch_named``."""
    if word in FIELDS:
        return FIELDS[word]
    found = {each.name for event in catch_named(word, kind).events for each in fields(event)}
    return *found, *(["access"] if "write" in found else [])


def catch_named(word: str, kind: str) -> Catch:
    """The catch of a word on a kind of target.  Raises Refused."""
    found = CATCHES.get(word)
    if found is None or kind not in found.where:
        what = "no event" if found is None else f"no event of a {kind}"
        raise Refused(f"catch {word}: {what}; help catch lists all")
    return found


def events_of(kind: str) -> dict[str, str]:
    """How each event that a kind of target has is written, and what it is."""
    answers = ", ".join(each.word for each in _TABLE if kind in each.where and each.about == _ANSWERED)
    told = {f"{each.word} {each.argument}".strip(): each.about for each in _TABLE if kind in each.where}
    told = {word: about for word, about in told.items() if about != _ANSWERED}
    beside = {FAULT: "a page fault, before its answer", CR3: "a load of CR3"}
    beside[f"{MODE} [{'|'.join(MODES)}]"] = "the first instruction in another mode"
    return {**beside, **({answers: _ANSWERED} if answers else {}), **told}
