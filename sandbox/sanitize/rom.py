"""The sanitizer on a bare machine: the guest is its own kernel, so only uses of stale translations can be told."""

from __future__ import annotations

from sandbox.machine.bare import BareMachine
from sandbox.sanitize.stores import TableSnapshots
from sandbox.sanitize.tlb import NoKernel, TlbSanitizer
from sandbox.x86.masks import CR4_PAE
from sandbox.x86.paging import LEGACY, PAE, PAGE_SHIFT, PAGE_SIZE


class RomSanitizer(NoKernel):
    """After each instruction the tables that walks have used are compared.  Raises NoFeed and UnknownEngine."""

    def __init__(self, bare: BareMachine) -> None:
        self._bare = bare
        self._used: list[int] = []
        """Frames of tables that walks have used."""
        self._batches = 0
        self._snapshots = TableSnapshots(bare.memory)
        self.tlb = TlbSanitizer(bare.machine.cpus, bare.memory, self, self._changed)
        bare.after_instruction = self.tlb.settle

    def _changed(self) -> list[int]:
        shadows, batches = self.tlb.shadows, self.tlb.watch.stream.batches
        if batches != self._batches:
            self._batches = batches
            used = {at >> PAGE_SHIFT for shadow in shadows for _, held in shadow.everything() for at in held.path[::2]}
            self._used = [each for each in used if self._bare.memory.is_ram(each << PAGE_SHIFT, PAGE_SIZE)]
        fmt = PAE if any(shadow.cr4 & CR4_PAE for shadow in shadows) else LEGACY
        return self._snapshots.take(self._used, fmt.entry_size)

    # -- what the sanitizer asks (tlb.World)

    def owner(self, frame: int) -> str:
        return "RAM" if self._bare.memory.is_ram(frame << PAGE_SHIFT) else "a device's"

    def now(self) -> int:
        return self._bare.clock
