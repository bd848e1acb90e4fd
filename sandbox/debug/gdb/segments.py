"""In the worker: a segment register is loaded as the CPU would (SDM 3A, 3.4.3), from the tables that it has."""

from __future__ import annotations

from sandbox.debug.target import Refused, Target
from sandbox.x86.masks import CR0_PE, VM

_PRESENT, _CODE_OR_DATA, _CODE, _WRITABLE, _GRANULAR = 1 << 15, 1 << 12, 1 << 11, 1 << 9, 1 << 23
_KEPT = 0x00F0FF00
"""The second word of a descriptor without its base and limit."""


def load_segment(target: Target, name: str, selector: int) -> None:
    """Raises Refused for what would fault."""
    context = target.context
    if not context.cr0 & CR0_PE or context.eflags & VM:
        context.set_segment(name, selector, selector << 4, 0xFFFF, context.segment(name).flags)
        return
    if not selector >> 2:
        if name in ("cs", "ss"):
            raise Refused(f"${name}: the null selector")
        context.set_segment(name, selector, 0, 0, 0)
        return
    low, high = _descriptor(target, selector)
    _check(name, selector, high, context.cpl)
    limit = low & 0xFFFF | high & 0xF0000
    limit = limit << 12 | 0xFFF if high & _GRANULAR else limit
    context.set_segment(name, selector, low >> 16 | (high & 0xFF) << 16 | high & 0xFF000000, limit, high & _KEPT)


def _descriptor(target: Target, selector: int) -> tuple[int, int]:
    table = target.context.segment("ldtr" if selector & 4 else "gdtr")
    at = selector & ~7
    data = target.read(table.base + at, 8) if at + 7 <= table.limit else b""
    if len(data) < 8:
        raise Refused(f"selector {selector:#x}: outside of its table")
    return int.from_bytes(data[:4], "little"), int.from_bytes(data[4:], "little")


def _check(name: str, selector: int, high: int, cpl: int) -> None:
    code, privilege = high & _CODE, high >> 13 & 3
    wanted = {"cs": bool(code), "ss": not code and bool(high & _WRITABLE)}.get(name, not code or bool(high & _WRITABLE))
    if not high & _CODE_OR_DATA or not high & _PRESENT or not wanted:
        raise Refused(f"${name}: selector {selector:#x} names no such segment")
    if (name in ("cs", "ss") and (selector & 3 != cpl or privilege != cpl)) or privilege < max(cpl, selector & 3):
        raise Refused(f"${name}: selector {selector:#x} is of another privilege level")
