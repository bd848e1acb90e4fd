"""How a bare machine's run ended."""

from __future__ import annotations

from sandbox.machine.delivery import Interruption
from sandbox.records import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """Base of all.  ``headline`` is one line; ``lines`` explain it."""

    def headline(self) -> str:
        raise NotImplementedError

    def lines(self) -> list[str]:
        return []


@dataclass(frozen=True, slots=True)
class Exited(Outcome):
    """The guest wrote to the exit port."""

    status: int

    def headline(self) -> str:
        return f"exit status {self.status}"


@dataclass(frozen=True, slots=True)
class Halted(Outcome):
    """Every CPU is halted, and no interrupt that it would take can come; ``eips`` by CPU, behind the HLT."""

    eips: tuple[int, ...]

    def headline(self) -> str:
        return "halted for ever at " + ", ".join(f"{eip:#010x}" for eip in self.eips)


@dataclass(frozen=True, slots=True)
class LimitReached(Outcome):
    """The blocks or the seconds given are spent; ``run`` may be called again."""

    what: str

    def headline(self) -> str:
        return f"stopped after {self.what}"


@dataclass(frozen=True, slots=True)
class AtBreakpoint(Outcome):
    """A CPU is about to execute the instruction at a breakpoint; ``run`` may be called again."""

    cpu: int
    eip: int

    def headline(self) -> str:
        return f"breakpoint at {self.eip:#010x} on CPU {self.cpu}"


@dataclass(frozen=True, slots=True)
class AtWatch(Outcome):
    """A CPU is about to touch what is watched (``sandbox.engine.watch``); ``run`` may be called again."""

    cpu: int
    eip: int

    def headline(self) -> str:
        return f"watch at {self.eip:#010x} on CPU {self.cpu}"


@dataclass(frozen=True, slots=True)
class TripleFault(Outcome):
    """The processor shut down.  ``chain`` begins with the first exception and ends with the one too many."""

    cpu: int
    chain: tuple[Interruption, ...]

    def headline(self) -> str:
        return f"triple fault on CPU {self.cpu}: {self.chain[-1].line()}"

    def lines(self) -> list[str]:
        """One line an exception, in order."""
        return [f"{number}. {each.line()}" for number, each in enumerate(self.chain, 1)]


@dataclass(frozen=True, slots=True)
class NobodyAnswers(Outcome):
    """An access to a physical address that is neither RAM nor a device; hardware would have read ones."""

    cpu: int
    eip: int
    physical: int
    write: bool
    size: int

    def headline(self) -> str:
        what = "store to" if self.write else "load from"
        return f"{self.size}-byte {what} physical address {self.physical:#x} at {self.eip:#010x}: nobody answers there"
