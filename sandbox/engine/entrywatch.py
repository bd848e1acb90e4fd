"""A watch of page-table entries: every one that the walk of an address uses, wherever the tables lie.

Entries are physical words.  Whoever stores to one is seen: a program or the kernel through any mapping, and the walks
of the CPUs themselves, which set accessed and dirty bits.  When an upper entry or CR3 changes, the walk takes another
way; ``follow`` moves the watch there, and is asked after each stop.
"""

from __future__ import annotations

import ctypes

from sandbox.engine.cpu import Cpu
from sandbox.engine.watch import WRITE, Hit, Watches
from sandbox.x86.masks import CR4_PAE
from sandbox.x86.walk import Access, LevelSeen, walk


class EntryWatch:
    """The entries that a CPU's present tables have for a linear address; all CPUs of ``watches`` are seen."""

    def __init__(self, watches: Watches, cpu: Cpu, linear: int) -> None:
        self._watches, self._cpu, self.linear = watches, cpu, linear
        self._numbers: list[int] = []
        self.levels: list[LevelSeen] = []
        """Of the walk as it was when it was last followed, from the top, as far as it came."""
        self.follow()

    def follow(self) -> bool:
        """Watch the entries of the present walk; whether they are others than before."""
        state = self._cpu.context
        found = walk(
            self._read, state.cr3, self.linear, Access(), cr0=state.cr0, cr4=state.cr4, efer=state.efer
        ).levels  # fmt: skip
        moved = [each.physical for each in found] != [each.physical for each in self.levels]
        if moved:
            self.clear()
            size = 8 if state.cr4 & CR4_PAE else 4
            self._numbers = [
                self._watches.add(each.physical, each.physical + size, WRITE, physical=True) for each in found
            ]
        self.levels = list(found)
        return moved

    def clear(self) -> None:
        """Watch them no more."""
        for number in self._numbers:
            self._watches.remove(number)
        self._numbers, self.levels = [], []

    def level(self, hit: Hit) -> LevelSeen | None:
        """The entry that a hit touched, as it was when it was followed."""
        if hit.physical is None:
            return None
        return next((each for each in self.levels if each.physical <= hit.physical < each.physical + 8), None)

    def _read(self, physical: int, size: int) -> int:
        """As the engine's walker reads: what is not RAM is 0."""
        for start, length, host in self._cpu.handle.ram:
            if start <= physical and physical + size <= start + length:
                return int.from_bytes(ctypes.string_at(host + physical - start, size), "little")
        return 0
