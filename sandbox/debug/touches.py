"""What was touched of memory that somebody watches: plain data, and a line for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sandbox.debug.target import Target
from sandbox.engine.watch import CR3, WALK
from sandbox.machine.memory import Reason
from sandbox.records import asdict, dataclass

STORE = "store"
"""Kind of a touch that no instruction did."""
FIELDS = ("address", "linear", "physical", "size", "write", "access", "old", "new", "eip", "dma", "cpu")
"""What a condition of a watch may ask for besides registers."""


@dataclass(frozen=True, slots=True)
class Touch:
    """An access that somebody watches; ``by`` is what stored without an instruction: a device, the kernel in Python.

    ``linear`` is what the instruction named, for a walk the address that it translated.
    """

    kind: str
    cpu: int
    eip: int | None
    linear: int | None
    physical: int | None
    size: int
    write: bool
    old: int | None
    new: int | None
    by: str = ""
    level: str = ""
    """Of an entry of page tables."""

    def fields(self) -> dict[str, Any]:
        """For conditions, and for JSON; ``address`` is the linear one where there is one."""
        address = self.physical if self.linear is None else self.linear
        return {**asdict(self), "address": address, "write": int(self.write), "dma": int(self.by == Reason.DMA.value)}


_BY = {
    Reason.TABLE: "the kernel's tables", Reason.STRUCT_PAGE: "the kernel's mem_map", Reason.IMAGE: "a loader",
    Reason.DMA: "a device", Reason.PROCESSOR: "the processor",
}  # fmt: skip


def tell(target: Target, hit: Sequence[tuple[int, Touch]]) -> tuple[str, dict[str, Any]]:
    """A line and data on what was touched, with the points' numbers: on the last store of it, or the first load."""
    numbers = ", ".join(str(each) for each in dict.fromkeys(number for number, _ in hit))
    chosen = next((touch for _, touch in reversed(hit) if touch.write), hit[0][1])
    details = chosen.fields()
    details["symbol"] = target.name_of(chosen.eip) if chosen.eip is not None else ""
    details["accesses"] = list(dict.fromkeys(_brief(touch) for _, touch in hit))
    if chosen.kind == STORE:
        details["event"] = f"store {chosen.physical:#x} {chosen.size} {chosen.new if chosen.new is not None else '?'}"
    return f"watchpoint {numbers}: {_line(target, chosen)}", details


def _brief(touch: Touch) -> str:
    address = touch.fields()["address"] or 0
    return f"{'write' if touch.write else 'read'} of {touch.size} bytes at {address:08x}: {_values(touch)}"


def _values(touch: Touch) -> str:
    width = 2 * min(touch.size, 8)
    old, new = ("?" if each is None else f"{each:0{width}x}" for each in (touch.old, touch.new))
    return f"{old} -> {new}" if touch.write else old


def _line(target: Target, touch: Touch) -> str:
    name = "" if touch.eip is None else target.name_of(touch.eip)
    by = f"by {touch.eip:08x}{f' <{name}>' if name else ''}" if touch.eip is not None else ""
    if touch.kind == CR3:
        return f"CR3 loaded {by}: {_values(touch)}"
    place, write = _place(touch), "write" if touch.write else "read"
    if touch.kind == WALK:
        return f"the walk of {touch.linear:08x} {by} marks {touch.level or 'an entry'} {place}: {_values(touch)}"
    if touch.kind == STORE:
        by = f"by {_BY.get(Reason(touch.by), touch.by)}"
    of = f" of {touch.level}" if touch.level else ""
    return f"{write} of {touch.size} bytes{of} {place} {by}: {_values(touch)}"


def _place(touch: Touch) -> str:
    physical = "" if touch.physical is None else f"physical {touch.physical:#x}"
    if touch.kind == WALK or touch.linear is None:
        return f"at {physical or 'an unknown place'}"
    if touch.kind == STORE and touch.level:
        return f"for {touch.linear:08x} at {physical}"
    return f"at {touch.linear:08x}" + (f" ({physical})" if physical else "")
