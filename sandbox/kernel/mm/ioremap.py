"""Device memory in kernel addresses: vremap of 1.3 and 2.0, ioremap of 2.1 and later (MM 6, post 002).

Both give a linear address that differs from the physical one.  What lies from 640 KB to 1 MB is in the direct map
already: 2.0 used it by its address, ioremap returns that one.  RAM that may belong to somebody is refused.
"""

from __future__ import annotations

from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.layout import PAGE_OFFSET, Layout
from sandbox.kernel.mm.pgdat import PgDat
from sandbox.kernel.mm.vmalloc import BadVfree, Vmalloc
from sandbox.x86.paging import PAGE_MASK, PAGE_SIZE, PCD

ISA_START, ISA_END = 0xA0000, 0x100000
HIGHEST = 1 << 32


class IoRemap:
    """Mappings of device memory on one kernel; they are vmalloc areas that own no frame."""

    def __init__(
        self, vmalloc: Vmalloc, layout: Layout, pgdat: PgDat, ram: list[tuple[int, int]], config: KernelConfig
    ) -> None:
        self._vmalloc, self._layout, self._pgdat, self._ram = vmalloc, layout, pgdat, ram
        self._version = config.policies["ioremap"]
        self._unchecked = config.broken("no-ram-check")

    def vremap(self, offset: int, size: int) -> int:
        """Linear address of ``size`` bytes at physical address ``offset``; 0 when it is refused.

        Refused are addresses below the end of lowmem, bases inside a page, nothing, and what wraps around (2.0), and
        frames of the allocator wherever they lie: 2.0 knew no highmem, later kernels refuse it in ioremap.
        """
        end = offset + size
        if offset % PAGE_SIZE or not size or end > HIGHEST:
            return 0
        if (self._ram_below(offset) and not self._unchecked) or not self._all_reserved(offset, end - 1):
            return 0
        return self._vmalloc.vmap_device(offset, -(-size // PAGE_SIZE) * PAGE_SIZE, "vremap")

    def ioremap(self, physical: int, size: int, nocache: bool = False) -> int:
        """The same for any alignment: base plus offset in the page; ``nocache`` sets PCD."""
        last = physical + size - 1
        if not size or last >= HIGHEST or last < physical:
            return 0
        if self._version == "2.1":
            if self._ram_below(physical):
                return PAGE_OFFSET + physical
            if physical % PAGE_SIZE:
                return 0
        if physical >= ISA_START and last < ISA_END:
            return PAGE_OFFSET + physical
        if not self._all_reserved(physical, last):
            return 0
        start = physical & PAGE_MASK
        # 2.2.26 and 2.4.22 round the last byte's address up, so that a page of which only its first byte is asked
        # for is lost.
        end = -(-last // PAGE_SIZE) * PAGE_SIZE if self._version == "2.4" else (last | PAGE_SIZE - 1) + 1
        if end <= start:
            return 0
        linear = self._vmalloc.vmap_device(start, end - start, "ioremap", PCD if nocache else 0)
        return linear + physical % PAGE_SIZE if linear else 0

    def ioremap_nocache(self, physical: int, size: int) -> int:
        """With PCD set."""
        return self.ioremap(physical, size, nocache=True)

    def iounmap(self, address: int) -> None:
        """Give a mapping back; addresses of the direct map are nobody's.  Raises BadVfree."""
        if not address or PAGE_OFFSET <= address < self._layout.direct.end:
            return
        area = self._vmalloc.find(address)
        if area is None or area.owned or area.start != address & PAGE_MASK:
            what = "memory, not a device's" if area is not None and area.owned else "no mapping begins there"
            raise BadVfree(f"iounmap({address:#010x}): {what}", self._vmalloc.report())
        self._vmalloc.vfree(area.start)

    def _ram_below(self, physical: int) -> bool:
        """Below ``high_memory``, the end of the direct map."""
        low = max(start + size for start, size in self._ram if start < self._layout.direct.size)
        return physical < min(low, self._layout.direct.size)

    def _all_reserved(self, first: int, last: int) -> bool:
        """No frame of the range is the allocator's."""
        if self._unchecked:
            return True
        return not any(zone.meets(first >> 12, last >> 12) for zone in self._pgdat.zones)
