"""Names for addresses and addresses for names."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping

_PLACE = re.compile(r"\s*([^\s+-]+)\s*(?:([+-])\s*(0x[0-9a-f]+|[0-9]+))?\s*", re.IGNORECASE | re.ASCII)


class SymbolTable:
    """Linear addresses by name; ``find`` answers with the nearest name at or below.

    Of several names for one address, ``find`` takes one that does not begin with an underscore: ``page``, not
    ``__bss_start``.  ``ends`` are the first addresses behind what names stand for; where nobody knows one, a name
    stands for the ``reach`` bytes up to the next.
    """

    def __init__(self, symbols: Mapping[str, int], reach: int = 1 << 20, ends: Mapping[str, int] | None = None) -> None:
        self._by_name = dict(symbols)
        ordered = sorted((address, not name.startswith("_"), name) for name, address in symbols.items())
        self._addresses = [address for address, _, _ in ordered]
        self._names = [name for _, _, name in ordered]
        self._reach, self._ends = reach, ends or {}

    def __len__(self) -> int:
        return len(self._by_name)

    def items(self) -> list[tuple[str, int]]:
        """(name, address) pairs, by address; of one address, the name that ``find`` gives comes last."""
        return list(zip(self._names, self._addresses, strict=True))

    def address(self, name: str) -> int | None:
        """The address of ``name``, ``name+0x10`` or ``name-16``; None when it is unknown or no such expression."""
        match = _PLACE.fullmatch(name)
        found = self._by_name.get(match[1]) if match else None
        if match is None or found is None:
            return None
        offset = int(match[3], 16 if match[3][:2].lower() == "0x" else 10) if match[3] else 0
        return found - offset if match[2] == "-" else found + offset

    def find(self, address: int) -> str | None:
        """``name`` or ``name+0x10``; None below the first symbol, and behind what the nearest one stands for."""
        at = bisect_right(self._addresses, address) - 1
        if at < 0:
            return None
        name, offset = self._names[at], address - self._addresses[at]
        if offset and address >= self._ends.get(name, self._addresses[at] + self._reach):
            return None
        return f"{name}+{offset:#x}" if offset else name

    def end(self, name: str) -> int | None:
        """The first address behind what a name stands for, where that is known."""
        return self._ends.get(name)
