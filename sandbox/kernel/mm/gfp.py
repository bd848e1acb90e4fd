"""What a request for memory may do when memory is short: the levels of 2.0 (MM 2).

========  =====  ==========================================================================================
level     value  when free frames are at the reserve
========  =====  ==========================================================================================
BUFFER        0  post 002: gives cached pages up; 1.0 to 2.0 (policy ``gfp_buffer=fail``): fails
ATOMIC        1  takes from the reserve; never reclaims, never sleeps: the only one for interrupts
USER          2  reclaims, then lets other tasks run, then fails
KERNEL        3  the same
NOBUFFER      4  the same
NFS           5  goes down to 5 frames, then as KERNEL
IO            6  has a discount on the reserve, then as KERNEL
========  =====  ==========================================================================================

``DMA`` (0x80, or'ed in) wants frames below 16 MB.  ``HIGHMEM`` (0x100) is ours: the caller reaches them through kmap.
"""

from __future__ import annotations

from sandbox.kernel.base.printk import Log

DMA = 0x80
HIGHMEM = 0x100
LEVEL_MASK = 0x7F
LEVELS = ("BUFFER", "ATOMIC", "USER", "KERNEL", "NOBUFFER", "NFS", "IO")
GFP_BUFFER, GFP_ATOMIC, GFP_USER, GFP_KERNEL, GFP_NOBUFFER, GFP_NFS, GFP_IO = range(len(LEVELS))
GFP_HIGHUSER = GFP_USER | HIGHMEM
"""Pages of programs and of files."""


def describe(gfp: int) -> str:
    """``GFP_KERNEL | GFP_DMA``."""
    level = gfp & LEVEL_MASK
    name = f"GFP_{LEVELS[level]}" if level < len(LEVELS) else f"{level:#x}"
    return name + (" | GFP_DMA" if gfp & DMA else "") + (" | HIGHMEM" if gfp & HIGHMEM else "")


COMPLAINTS = 4


class Nonatomic:
    """A function's count of the requests from interrupts that might wait: a static ``count`` in 1.0 to 2.2."""

    __slots__ = ("_function", "_log", "seen")

    def __init__(self, function: str, log: Log) -> None:
        self._function, self._log = function, log
        self.seen = 0

    def complain(self, gfp: int) -> bool:
        """Count one; the first four are told, and True."""
        self.seen += 1
        if self.seen > COMPLAINTS:
            return False
        self._log.printk(f"{self._function} called nonatomically from interrupt: {describe(gfp)}\n")
        return True

    def lower(self, gfp: int) -> int:
        """1.0 to 2.0: the first four become GFP_ATOMIC, later ones stay what they are."""
        return atomic(gfp) if self.complain(gfp) else gfp


def atomic(gfp: int) -> int:
    """The same request at the level GFP_ATOMIC."""
    return gfp & ~LEVEL_MASK | GFP_ATOMIC
