"""What the kernel gives up when frames run out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

SHRINK_BATCH = 64
"""Frames asked for at a time."""


def shrink(kernel: Kernel, wanted: int = SHRINK_BATCH) -> int:
    """Free up to about ``wanted`` frames that can be had again: clean cache pages, then stacks kept for new tasks.

    The number of frames freed; 0 means that there is nothing left to give.
    """
    if kernel.broken("swap-kernel"):
        for area in kernel.vmalloc.areas:
            for pfn in area.frames if area.owned and area.kind == "vmalloc" else ():
                kernel.put_page(pfn)
                return 1
    freed = kernel.pagecache.shrink_mmap(wanted)
    if freed < wanted:
        freed += kernel.drop_spare_stacks()
    return freed
