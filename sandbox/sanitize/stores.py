"""Which entries of tables have changed: told by the host's door, or found by comparing pages that walks used."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sandbox.machine.memory import PhysicalMemory
from sandbox.x86.paging import PAGE_SHIFT, PAGE_SIZE, P


class TableStores:
    """The host's stores into tables (``PhysicalMemory.table_observer``): Python's, in a kernel's machine.

    No change is missed for want of a word from whoever stores: the views that one must ask for tell of it.
    """

    def __init__(self, memory: PhysicalMemory, entry_size: int) -> None:
        self._memory, self._entry = memory, -entry_size
        self.alert = False
        """Something was stored since the last ``take``, or is stale: the moment to tell of every store."""
        self.places: set[int] = set()
        """Buffer offsets of entries that were stored since the last ``take``."""
        self.look: Callable[[int, int, int], bool] = lambda offset, cpu, linear: False
        """Whether that INVLPG has left nothing of an entry that a CPU has stored itself."""
        memory.table_observer = self

    def stored(self, offset: int, width: int) -> None:
        """A word of an entry was stored."""
        self.places.add(offset & self._entry)
        self.alert = True

    def executed(self, offset: int, width: int, cpu: int, linear: int) -> None:
        """An entry was stored by a CPU, which was to execute INVLPG behind that."""
        if self.alert or not self.look(offset, cpu, linear):
            self.stored(offset, width)

    def take(self) -> list[int]:
        """Physical addresses of the entries that were stored since the last time."""
        physical = self._memory.physical_of
        places = [physical(each) for each in sorted(self.places)]
        self.places.clear()
        return places


class TableSnapshots:
    """Changes by whomever, the guest included: each page of tables is compared with what it was."""

    def __init__(self, memory: PhysicalMemory) -> None:
        self._memory = memory
        self._pages: dict[int, bytes] = {}

    def take(self, tables: Iterable[int], entry_size: int) -> list[int]:
        """Physical addresses of entries, present before, that changed in these frames of RAM since the last time."""
        changed: list[int] = []
        memory, pages = self._memory.bytes, self._pages
        for frame in tables:
            at = self._memory.host_index(frame << PAGE_SHIFT)
            now, before = memory[at : at + PAGE_SIZE].tobytes(), pages.get(frame)
            if now != before:
                pages[frame] = now
                changed += _changed(frame << PAGE_SHIFT, before, now, entry_size)
        return changed


def _changed(base: int, before: bytes | None, now: bytes, entry_size: int) -> list[int]:
    """All of them in a page that was not looked at before."""
    if before is None:
        return list(range(base, base + PAGE_SIZE, entry_size))
    return [
        base + at
        for at in range(0, PAGE_SIZE, entry_size)
        if before[at] & P and before[at : at + entry_size] != now[at : at + entry_size]
    ]
