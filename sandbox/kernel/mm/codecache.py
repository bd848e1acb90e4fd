"""One door that keeps translated code from running stale.

Each CPU caches translations of guest code by physical frame.  A CPU notices its own stores into such a frame; it
does not notice stores by other CPUs, nor bytes that a device or the loader put there.  So:

- a frame that held code is *retired* when it is freed, and every CPU drops its translations before a retired frame
  is handed out again;
- host bytes into a frame that held code drop them at once;
- with several CPUs, a frame that is executable in one mapping and writable in another is *watched*: it is compared at
  every change of turn, and a difference drops the other CPUs' translations.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from sandbox.engine.cpu import Cpu
from sandbox.machine.memory import PhysicalMemory
from sandbox.x86.paging import PAGE_SIZE


class CodeCache:
    """What may be translated, by frame number."""

    def __init__(self, memory: PhysicalMemory, cpus: Sequence[Cpu], enabled: bool) -> None:
        self._memory = memory
        self._cpus = cpus
        self._enabled = enabled
        self.alone = len(cpus) == 1
        """No other CPU has translations: only what may be executed is of interest to ``mapped``."""
        self._code: set[int] = set()
        self._writable: set[int] = set()
        self.retired: set[int] = set()
        """Frames that were freed with code in them, translations of which are left."""
        self._watched: dict[int, int] = {}
        self.dma_stored: list[tuple[int, int]] = []
        """(physical address, bytes) that devices have stored since a CPU came back last."""
        self.drops = 0
        """Times that translations were dropped."""

    def mapped(self, pfn: int, executable: bool, writable: bool) -> None:
        """A user entry for the frame was made."""
        if executable:
            self._code.add(pfn)
        if self.alone:
            return
        if writable:
            self._writable.add(pfn)
        if pfn in self._code and pfn in self._writable and pfn not in self._watched:
            self._watched[pfn] = self._sum(pfn)

    def freed(self, pfn: int) -> None:
        """The frame went back to the allocator."""
        if pfn in self._code:
            self._code.discard(pfn)
            self.retired.add(pfn)
        self._writable.discard(pfn)
        self._watched.pop(pfn, None)

    def reused(self, pfn: int) -> None:
        """The frame is handed out again."""
        if pfn in self.retired:
            self.retired.clear()
            self.drop()

    def host_wrote(self, pfn: int) -> None:
        """A device or the loader stored into the frame."""
        if pfn in self._code or pfn in self.retired:
            self.drop()

    def stored(self, pfn: int) -> None:
        """A CPU stored into the frame through an address of the kernel's: it has noticed, the others have not."""
        if not self.alone:
            self.host_wrote(pfn)

    def dma_done(self, physical: int, size: int) -> None:
        """A device has stored ``size`` bytes; what that means is seen to when no CPU runs."""
        self.dma_stored.append((physical, size))

    def after_dma(self) -> None:
        """Translations of what was in the frames that devices have stored into are stale."""
        for physical, size in self.dma_stored:
            for pfn in range(physical >> 12, (physical + size - 1 >> 12) + 1):
                self.host_wrote(pfn)
        self.dma_stored.clear()

    def turn_over(self) -> None:
        """Another CPU is about to run."""
        changed = False
        for pfn, before in self._watched.items():
            now = self._sum(pfn)
            if now != before:
                self._watched[pfn] = now
                changed = True
        if changed:
            self.drop()

    def drop(self) -> None:
        """Every CPU forgets every translation."""
        self.drops += 1
        if self._enabled:
            for cpu in self._cpus:
                cpu.drop_all_code()

    def _sum(self, pfn: int) -> int:
        at = self._memory.host_index(pfn << 12)
        return zlib.crc32(self._memory.bytes[at : at + PAGE_SIZE])
