"""What the sanitizer found, for people and for JSON."""

from __future__ import annotations

from typing import Any

from sandbox.records import asdict, dataclass

HEADLINES = {
    "use": "a stale translation was used",
    "ring3": "a CPU goes to ring 3 with a stale translation",
    "released": "a frame was released while a CPU may still use it",
    "reused": "a frame was given to somebody else while a CPU may still use it",
    "dma": "a device stored into a frame that a CPU may still use by a stale translation",
    "entered": "a frame was entered writable elsewhere while a CPU may still use the old entry",
    "table": "a page table's frame was released while a CPU may still walk it",
    "pdpte": "a PDPTE was changed while its old value is in a CPU's register",
}
"""Kind, and what it means."""


@dataclass(frozen=True, slots=True)
class StaleReport:
    """One stale translation.  ``linear``, ``eip`` are linear, ``place`` is the entry's physical address."""

    kind: str
    cpu: int
    pid: int
    linear: int
    eip: int
    instruction: str
    symbol: str
    place: int
    old: int
    new: int
    frame: int
    owner: str
    missing: str
    time: int
    """Of the machine, in blocks."""

    def headline(self) -> str:
        """One line."""
        return f"{HEADLINES[self.kind]}: CPU {self.cpu}, {self.linear:08x}"

    def lines(self, digits: int = 16) -> list[str]:
        """The whole of it."""
        task = f"task {self.pid}, " if self.pid else ""
        return [
            self.headline(),
            f"    at        {task}{self.eip:08x}{self.symbol}    {self.instruction}",
            f"    entry     [{self.place:#x}] was {self.old:0{digits}x}, is {self.new:0{digits}x}",
            f"    frame     {self.frame:#x}: {self.owner}",
            f"    missing   {self.missing}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
