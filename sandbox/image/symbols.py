"""Names for addresses and addresses for names."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping


class SymbolTable:
    """Linear addresses by name; ``find`` answers with the nearest name at or below."""

    def __init__(self, symbols: Mapping[str, int], reach: int = 1 << 20) -> None:
        self._by_name = dict(symbols)
        ordered = sorted((address, name) for name, address in symbols.items())
        self._addresses = [address for address, _ in ordered]
        self._names = [name for _, name in ordered]
        self._reach = reach

    def __len__(self) -> int:
        return len(self._by_name)

    def items(self) -> list[tuple[str, int]]:
        """(name, address) pairs, by address."""
        return list(zip(self._names, self._addresses, strict=True))

    def address(self, name: str) -> int | None:
        """The address of a name, or of ``name+0x10``; None when it is unknown."""
        base, _, offset = name.partition("+")
        found = self._by_name.get(base.strip())
        if found is None:
            return None
        return found + (int(offset, 0) if offset else 0)

    def find(self, address: int) -> str | None:
        """``name`` or ``name+0x10``; None below the first symbol, or too far above the last."""
        at = bisect_right(self._addresses, address) - 1
        if at < 0 or address - self._addresses[at] >= self._reach:
            return None
        offset = address - self._addresses[at]
        return f"{self._names[at]}+{offset:#x}" if offset else self._names[at]
