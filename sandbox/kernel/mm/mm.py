"""An address space: ``mm_struct``."""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.kernel.mm.vma import VmaTree
from sandbox.kernel.vfs.inode import Inode


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
    start_stack: int = 0
    users: int = 1
    cpu_mask: int = 0
    """Bit n: CPU n has this CR3 loaded, so it may hold translations."""
    minor_faults: int = 0
    read_implies_exec: bool = False
    """The program has no PT_GNU_STACK: whatever it maps readable is executable too."""
    exe: Inode | None = None
    """The file that it runs, which nobody may write meanwhile (ETXTBSY)."""

    arg_start: int = 0
    arg_end: int = 0
    env_start: int = 0
    env_end: int = 0
    """Where exec laid the strings of arguments and environment."""
    vdso: int = 0
    """Linear address of the page with the signal trampolines, 0 before it was needed."""
    ldt: int = 0
    """The frame of the local descriptor table, 0 for none."""
    ldt_entries: int = 0

    def run_from(self, inode: Inode | None) -> None:
        """Take the file that the program is in, and let go of the one before.  Raises KernelError(ETXTBSY)."""
        if inode is not None:
            inode.deny_write()
        if self.exe is not None:
            self.exe.allow_write()
        self.exe = inode
