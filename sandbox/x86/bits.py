"""Words whose bits have names: the base of every register and error code in this room."""

from __future__ import annotations

from enum import IntFlag


class Bits(IntFlag):
    """A word as its set bits; a subclass's body is the manual's bit table.

    A member is a mask, so ``cr0 & Cr0.WP`` works on plain integers.  Bits without a name are kept, and shown.
    """

    def names(self) -> list[str]:
        """Names of the set bits, lowest first, then what has no name as one number."""
        told = [bit.name for bit in type(self) if self & bit and bit.name]
        rest = int(self) & ~sum(int(bit) for bit in type(self))
        return [*told, f"{rest:#x}"] if rest else told

    def __repr__(self) -> str:
        return f"{type(self).__name__}({int(self):#x}: {' '.join(self.names()) or 'none'})"

    def __str__(self) -> str:
        return " ".join(self.names()) or "none"
