"""What the kernel reports: every fault with its resolution, flushes, mapping changes, calls, switches."""

from __future__ import annotations

from sandbox.machine.events import Event
from sandbox.records import dataclass


@dataclass(slots=True)
class PageFault(Event):
    """A page fault and who resolved it how.

    ``eip`` and ``address`` are linear; ``code`` holds the instruction's bytes as far as they are mapped; ``pte`` is
    the entry afterwards; ``blocks`` is what the kernel spent on it.
    """

    pid: int
    eip: int
    address: int
    error_code: int
    resolution: str
    pte: int
    blocks: int
    code: bytes
    number: int


@dataclass(slots=True)
class TlbFlush(Event):
    """An invalidation: ``page`` (of one linear address), ``space`` or ``all``."""

    scope: str
    address: int


@dataclass(slots=True)
class MapChange(Event):
    """A VMA came, went or changed: linear [start, end)."""

    pid: int
    what: str
    start: int
    end: int
    prot: int


@dataclass(slots=True)
class PageAlloc(Event):
    """2^order frames from ``pfn`` on were allocated or freed; ``gfp`` is the request's word."""

    what: str
    pfn: int
    order: int
    gfp: int


@dataclass(slots=True)
class ModuleChange(Event):
    """A module was loaded or unloaded: linear [base, base + size)."""

    what: str
    name: str
    base: int
    size: int


@dataclass(slots=True)
class SystemCall(Event):
    """A system call when it returns; ``result`` is negative for an errno."""

    pid: int
    number: int
    name: str
    arguments: tuple[int, ...]
    result: int


@dataclass(slots=True)
class CallEntered(Event):
    """A task makes a system call; what its arguments point to is as the program left it."""

    pid: int
    number: int
    name: str
    arguments: tuple[int, ...]


@dataclass(slots=True)
class SignalDelivered(Event):
    """A signal is about to reach its handler, to stop its task or to end it."""

    pid: int
    signal: int
    code: int
    union: bytes


@dataclass(slots=True)
class TaskChange(Event):
    """fork, exec, exit, sleep, wake."""

    pid: int
    what: str
    detail: str


@dataclass(slots=True)
class TaskSwitch(Event):
    """A CPU goes on with another task; pid 0 is idle."""

    previous: int
    next: int


@dataclass(slots=True)
class RaceSwitch(Event):
    """A flow stood still at a race point, which it passed for the ``times``-th time, and goes on now."""

    name: str
    times: int


@dataclass(slots=True)
class Killed(Event):
    """A signal ends a task."""

    rare = True

    pid: int
    signal: int
    report: str
