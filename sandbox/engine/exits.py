"""Why a CPU came back from running: one small typed value an exit."""

from __future__ import annotations

from sandbox.records import dataclass


@dataclass(slots=True)
class Exit:
    """Base of all exits.  ``eip`` is where the CPU will go on, in CS: linear only when the base of CS is 0."""

    eip: int


@dataclass(slots=True)
class Trap(Exit):
    """An exception or software interrupt, captured at the instruction.

    ``address`` is CR2 (linear) for a page fault, else 0.  ``error_code`` is 0 where the vector pushes none.  For a
    software interrupt ``eip`` is already behind the instruction.
    """

    vector: int
    error_code: int
    address: int
    cpl: int
    software: bool


@dataclass(slots=True)
class BusError(Exit):
    """A physical address that neither RAM nor a device answers."""

    physical: int
    write: bool
    size: int


@dataclass(slots=True)
class PortDenied(Exit):
    """IN or OUT at a CPL above IOPL, with a bit set (or missing) in the TSS's IO bitmap: nothing was transferred."""

    port: int
    size: int
    write: bool


@dataclass(slots=True)
class Halt(Exit):
    """HLT at CPL 0; ``eip`` is behind it."""


@dataclass(slots=True)
class StoppedAhead(Exit):
    """What was to run before (``Cpu.go_ahead``) did not come to its HLT: ``cause`` is its exit, ``Cpu.context`` its
    context, and nothing else has run."""

    cause: Exit


@dataclass(slots=True)
class BlocksSpent(Exit):
    """The count-down of blocks given to ``run`` has ended; ``eip`` starts a block."""


@dataclass(slots=True)
class Paused(Exit):
    """The run has taken its share of the host's time, with blocks left: where that is, the guest cannot see."""


@dataclass(slots=True)
class Stepped(Exit):
    """The instructions asked for are done."""


@dataclass(slots=True)
class BreakpointHit(Exit):
    """An execution breakpoint, before its instruction."""


@dataclass(slots=True)
class Watched(Exit):
    """Before an access of a watched range, or behind a load of CR3: ``Watches.stopped_by`` tells which."""


@dataclass(slots=True)
class ModeChanged(Exit):
    """Before a block in another mode than the last one: ring, VM86, protection, paging (``Cpu.watch_mode``)."""


@dataclass(slots=True)
class Stopped(Exit):
    """``stop()`` was called while the CPU ran."""
