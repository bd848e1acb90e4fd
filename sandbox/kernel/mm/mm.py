"""An address space: ``mm_struct``."""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.kernel.vma import VmaTree


@dataclass(slots=True, eq=False)
class Mm:
    """Tables by frame number, areas, and the places that exec laid out (linear addresses)."""

    pgd: int
    cr3: int
    vmas: VmaTree = field(default_factory=VmaTree)
    start_code: int = 0
    end_code: int = 0
    start_data: int = 0
    end_data: int = 0
    start_brk: int = 0
    brk: int = 0
    start_stack: int = 0
    users: int = 1
    cpu_mask: int = 0
    """Bit n: CPU n has this CR3 loaded, so it may hold translations."""
    minor_faults: int = 0
    executable_data: bool = False
    """The program asked for an executable stack, so readable implies executable (Linux's READ_IMPLIES_EXEC)."""
