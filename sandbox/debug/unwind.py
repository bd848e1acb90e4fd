"""Who called: by the program's call frame information, by EBP, or by what of the stack looks like a return address.

CFI is that of ``.eh_frame`` (DWARF 5, 6.4; register numbers of the i386 psABI, table 2.14).  A return address stands
behind a CALL; what does not is none, whatever EBP points to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from sandbox.debug import dwarf
from sandbox.debug.target import WRAP, Target
from sandbox.records import dataclass

REGISTERS = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip")
"""By their numbers in DWARF."""
MOST_FRAMES, MOST_WORDS = 64, 1024
_CALLS = (5, 2, 3, 6, 7, 4)
"""Bytes that a CALL has, the likeliest first."""


class Unwinder(Protocol):
    """Who knows call frame information."""

    def unwind(self, target: Target, registers: dict[str, int], first: bool) -> bool | None:
        """True with the caller's registers in place, False where there is none, None where nothing is known."""
        ...


@dataclass(frozen=True, slots=True)
class Frame:
    """A place in a call chain, and how it was found: ``start``, ``cfi``, ``ebp``, ``esp`` or ``stack`` (a guess)."""

    address: int
    by: str


def frames(target: Target, cfi: Unwinder | None) -> Iterator[Frame]:
    """From where the context stands outwards."""
    context = target.context
    registers = {name: value & WRAP for name, value in context.general().items()}
    registers["eip"] = context.linear_eip & WRAP
    yield Frame(registers["eip"], "start")
    for number in range(MOST_FRAMES - 1):
        by = _step(target, cfi, registers, first=not number)
        if not by:
            return
        yield Frame(registers["eip"], by)


def _step(target: Target, cfi: Unwinder | None, registers: dict[str, int], first: bool) -> str:
    """Make the registers those of the caller; how, or nothing where nobody called."""
    if cfi is not None:
        known = cfi.unwind(target, registers, first)
        if known is not None:
            return "cfi" if known else ""
    if first and _enters(target, registers):
        return "esp"
    if _by_ebp(target, registers):
        return "ebp"
    return "stack" if _by_stack(target, registers) else ""


def _word(target: Target, at: int) -> int | None:
    data = target.read(at & WRAP, 4)
    return int.from_bytes(data, "little") if len(data) == 4 else None


def is_return(target: Target, linear: int) -> bool:
    """An address behind a CALL."""
    for size in _CALLS:
        code = target.code(linear - size & WRAP, 1)
        if code and code[0].size == size and code[0].text.startswith("call"):
            return True
    return False


def _leave(registers: dict[str, int], back: int, esp: int) -> bool:
    registers["eip"], registers["esp"] = back, esp & WRAP
    return True


def _enters(target: Target, registers: dict[str, int]) -> bool:
    """The first instruction of a function, or the second behind PUSH EBP: the return address is near ESP."""
    name, esp = target.name_of(registers["eip"]), registers["esp"]
    code = target.code(registers["eip"], 1)
    pushed = bool(code) and code[0].text == "mov ebp, esp"
    if not pushed and ("+" in name or not name) and not (code and code[0].text == "push ebp"):
        return False
    at = esp + 4 * pushed
    back = _word(target, at)
    return back is not None and is_return(target, back) and _leave(registers, back, at + 4)


def _by_ebp(target: Target, registers: dict[str, int]) -> bool:
    frame = registers["ebp"]
    above, back = _word(target, frame), _word(target, frame + 4)
    if above is None or back is None or frame < registers["esp"] or not is_return(target, back):
        return False
    registers["ebp"] = above
    return _leave(registers, back, frame + 8)


def _by_stack(target: Target, registers: dict[str, int]) -> bool:
    esp = registers["esp"]
    data = target.read(esp, 4 * MOST_WORDS)
    for at in range(0, len(data) - 3, 4):
        back = int.from_bytes(data[at : at + 4], "little")
        if target.name_of(back) and is_return(target, back):
            return _leave(registers, back, esp + at + 4)
    return False


class FrameInfo:
    """The call frame information of one file, which lies ``bias`` away from where it says."""

    def __init__(self, data: bytes, bias: int = 0) -> None:
        self._entries, self._bias = _entries(data), bias

    def __bool__(self) -> bool:
        return bool(self._entries)

    def unwind(self, target: Target, registers: dict[str, int], first: bool) -> bool | None:
        """True with the caller's registers in place, False where there is none, None where nothing is known."""
        return dwarf.guarded(lambda: self._unwind(target, registers, first), None)

    def _unwind(self, target: Target, registers: dict[str, int], first: bool) -> bool | None:
        at = registers["eip"] - (not first) - self._bias
        entry = next((each for each in self._entries if each[0] <= at < each[1]), None)
        row = None if entry is None else _row(entry[2], at)
        cfa = None if row is None else _address(target, registers, row["cfa"])
        if entry is None or row is None or cfa is None:
            return None
        found = dict(registers, esp=cfa)
        for number, rule in row.items():
            if isinstance(number, int) and number < len(REGISTERS):
                value = _value(target, registers, cfa, rule)
                if value is None:
                    return False if number == REGISTERS.index("eip") else None
                if value >= 0:
                    found[REGISTERS[number]] = value
        if not target.read(found["eip"], 1) or not (_of_signal(entry[2]) or is_return(target, found["eip"])):
            return None if found["eip"] else False
        registers.update(found)
        return True


class FramesOfFiles:
    """The call frame information of all files that a task executes; a file's is read when an address of it comes."""

    def __init__(self, of: Callable[[int], FrameInfo | None]) -> None:
        self._of = of

    def unwind(self, target: Target, registers: dict[str, int], first: bool) -> bool | None:
        found = self._of(registers["eip"] - (not first) & WRAP)
        return None if found is None else found.unwind(target, registers, first)


def _of_signal(entry: Any) -> bool:
    """Nobody called a handler of a signal, nor what a handler returns to."""
    return b"S" in entry.cie.header.augmentation


def _address(target: Target, registers: dict[str, int], rule: Any) -> int | None:
    """Where the caller's stack pointer was: a register and an offset, or an expression."""
    if rule.expr is not None:
        return _expression(target, registers, bytes(rule.expr))
    return registers[REGISTERS[rule.reg]] + rule.offset & WRAP if rule.reg < len(REGISTERS) else None


def _value(target: Target, registers: dict[str, int], cfa: int, rule: Any) -> int | None:
    """A saved register: None where it is lost, -1 where it is what it was."""
    if rule.type == "OFFSET":
        return _word(target, cfa + rule.arg)
    if rule.type == "EXPRESSION":
        at = _expression(target, registers, bytes(rule.arg))
        return None if at is None else _word(target, at)
    return -1 if rule.type == "SAME_VALUE" else None


def _expression(target: Target, registers: dict[str, int], code: bytes) -> int | None:
    """What compilers write for stacks that are aligned: registers with offsets, and loads (DWARF 5, 2.5.1)."""
    value, at = 0, 0
    while at < len(code):
        operation, at = code[at], at + 1
        if operation == _DEREF:
            loaded = _word(target, value)
            if loaded is None:
                return None
            value = loaded
        elif _BREG0 <= operation < _BREG0 + len(REGISTERS):
            offset, at = _leb(code, at, signed=True)
            value = registers[REGISTERS[operation - _BREG0]] + offset & WRAP
        elif operation == _PLUS_UCONST:
            offset, at = _leb(code, at, signed=False)
            value = value + offset & WRAP
        else:
            return None
    return value


_DEREF, _PLUS_UCONST, _BREG0 = 0x06, 0x23, 0x70


def _leb(code: bytes, at: int, *, signed: bool) -> tuple[int, int]:
    """A LEB128 number, and where it ends (DWARF 5, 7.6)."""
    value = shift = 0
    while at < len(code):
        byte, at = code[at], at + 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value - (1 << shift) if signed and byte & 0x40 else value, at
    return value, at


def _row(entry: Any, at: int) -> dict[Any, Any] | None:
    table = entry.get_decoded().table
    found = [row for row in table if row["pc"] <= at]
    return found[-1] if found else None


def _entries(data: bytes) -> list[tuple[int, int, Any]]:
    """(first address, end, entry) of each FDE; none in a file that has no such section, or a broken one."""
    from elftools.dwarf.callframe import FDE

    def entries(info: Any) -> list[tuple[int, int, Any]]:
        found = [each for each in info.EH_CFI_entries() if isinstance(each, FDE)] if info.has_EH_CFI() else []
        starts = [each["initial_location"] for each in found]
        return [(start, start + each["address_range"], each) for start, each in zip(starts, found, strict=True)]

    return dwarf.read(data, entries, [])
