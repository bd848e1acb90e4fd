"""What an entry leads to that names no frame: who keeps a page that was swapped out, and who waits for one that moves.

The door (``entries``) and the fault handler ask this one place.  No swap device is there yet, so the default refuses:
an entry that nobody has made is not lost, and not taken for anything else (MM 17).
"""

from __future__ import annotations

from typing import Protocol

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.pte import decode
from sandbox.x86.errors import SandboxError


class LostEntry(SandboxError):
    """An entry is of a kind that nothing here has made: the kernel is wrong about its own tables."""

    exit_status = 3


class SwapSpace(Protocol):
    """The keeper of slots; the names are Linux's (mm/swapfile.c, mm/memory.c, mm/migrate.c)."""

    def swap_duplicate(self, entry: int) -> None:
        """One more entry names a slot: fork carries it over."""
        ...

    def swap_free(self, entry: int) -> None:
        """An entry that named a slot is gone: unmapped, truncated, dropped by madvise(2) or by the end of its space."""
        ...

    def do_swap_page(self, cpu: KernelCpu, mm: Mm, linear: int, prot: int, ptep: int, entry: int) -> None:
        """An access needs the page of an area with rights ``prot``: bring it in, or leave what came meanwhile."""
        ...

    def migration_wait(self, ptep: int, entry: int) -> bool:
        """Let whoever moves a page go on; False where nobody is left who could end it."""
        ...


class NoSwap:
    """The ``SwapSpace`` of a machine without swap: nothing here makes such an entry.  Moves end by themselves."""

    __slots__ = ("_smp",)

    def __init__(self, smp: Smp) -> None:
        self._smp = smp

    def swap_duplicate(self, entry: int) -> None:
        raise _unknown(entry)

    def swap_free(self, entry: int) -> None:
        raise _unknown(entry)

    def do_swap_page(self, cpu: KernelCpu, mm: Mm, linear: int, prot: int, ptep: int, entry: int) -> None:
        raise _unknown(entry)

    def migration_wait(self, ptep: int, entry: int) -> bool:
        return self._smp.patience is not None and self._smp.patience()


def _unknown(entry: int) -> LostEntry:
    kind = decode(entry).kind.value
    return LostEntry(f"an entry is {kind}, and nothing here has made such a one", f"entry {entry:#x}")
