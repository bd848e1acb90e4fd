"""What gdb asks for behind each stop, taken at once where the guest stands: one question to the worker, not seven."""

from __future__ import annotations

from sandbox.debug import poke
from sandbox.debug.gdb.registers import REGISTERS
from sandbox.debug.looked import LONGEST
from sandbox.debug.target import WRAP, Target
from sandbox.records import dataclass

LINE = 64
"""Bytes that gdb reads at once of code and stack ("set dcache line-size", its manual, 10.23)."""
EXPEDITED = (5, 4, 8)
"""EBP, ESP and EIP, which a stop reply has with it, as gdbserver's for an i386 (its i386.dat)."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A thread's registers that gdb needs for its frame, and lines of memory by their addresses: code and stack."""

    thread: int
    registers: tuple[bytes, ...]
    lines: dict[int, bytes]

    def memory(self, linear: int, size: int) -> bytes | None:
        """Bytes of one line, None where they are not all in the picture."""
        first = linear % LINE
        line = self.lines.get(linear - first, b"")
        return line[first : first + size] if 0 < size <= len(line) - first else None

    def expedited(self) -> bytes:
        """Part of a stop reply."""
        told = zip(EXPEDITED, self.registers, strict=True)
        return b"".join(b"%02x:%s;" % (number, value.hex().encode()) for number, value in told)


def taken(target: Target, thread: int) -> Picture:
    """Of what is looked at."""
    context = target.context
    code = context.linear_eip & WRAP
    stack = context.segment("ss").base + context.esp
    wanted = {at & WRAP & -LINE for at in (code, code + LONGEST, stack, stack + LINE)}
    registers = tuple(REGISTERS[number].read(target) for number in EXPEDITED)
    return Picture(thread, registers, lines(target, wanted))


def lines(target: Target, wanted: set[int]) -> dict[int, bytes]:
    """Lines that follow each other are read at once."""
    found: dict[int, bytes] = {}
    for at in sorted(wanted):
        if at in found:
            continue
        pair = at + LINE in wanted
        data = poke.read(target, at, 2 * LINE if pair else LINE)
        found[at] = data[:LINE]
        if pair:
            found[at + LINE] = data[LINE:] if len(data) > LINE else poke.read(target, at + LINE, LINE)
    return found
