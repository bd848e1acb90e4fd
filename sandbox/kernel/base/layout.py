"""Where things are in the fourth gigabyte.

Post 001 (Tweedie, January 1999) draws it: 1 GB of kernel addresses at 3 GB, 800 MB of them mapping physical
memory directly, 100 MB for dynamic mappings, the rest for vmalloc::

    C0000000  direct map         RAM from 0 on, in large pages; 800 MB at most (896 MB as 2.3 and later had it)
       ...    kva pool           100 MB of 4 KB slots
       ...    virtual mem_map   only where the memory model has one
       ...    (8 MB gap)
       ...    vmalloc            what is left
    FF000000  pkmap              4 MB: the kmap pool (1024 slots, PAE uses the first 512)
    FF400000  kernel stacks      4 MB: a page each, and below it one that is never there
    FF800000  fixmap             8 MB: kmap_atomic windows, and until boot is over the code that only boot needs

Every region is a multiple of 4 MB, so that no page-directory entry of either format belongs to two.  Machines with
less RAM have a smaller direct map and kva pool; the order stays.  A direct map that is smaller than RAM leaves highmem
on machines of any size: ``scaled_direct_map`` keeps the drawing's proportion of 800 MB to 1 GB.
"""

from __future__ import annotations

from sandbox.records import dataclass
from sandbox.x86.errors import ConfigurationError
from sandbox.x86.paging import PAGE_SIZE

MEGABYTE = 1 << 20
PAGE_OFFSET = 0xC0000000
TASK_SIZE = PAGE_OFFSET
PKMAP_BASE, PKMAP_END = 0xFF000000, 0xFF400000
KSTACK_BASE, KSTACK_END = 0xFF400000, 0xFF800000
FIXADDR_START, FIXADDR_END = 0xFF800000, 0xFFFFF000
REGION = 4 << 20
VMALLOC_GAP = 8 << 20
DIRECT_MAP = 800 << 20
"""Of the drawing in post 001, where the gigabyte of kernel addresses would hold 1 GB of RAM."""
LARGEST_DIRECT_MAP = 896 << 20
"""MAXMEM of 2.3 and later: a gigabyte less the reserve of 128 MB (MM 1)."""
SMALLEST_DIRECT_MAP = 2 * REGION
KVA_BYTES = 100 << 20
VMALLOC_RESERVE = 32 << 20
"""The kva pool leaves vmalloc at least so much."""
KSTACK_SLOT = 2 * PAGE_SIZE
"""Bytes from one kernel stack's guard page to the next one's."""
KSTACKS = (KSTACK_END - KSTACK_BASE) // KSTACK_SLOT
"""Kernel stacks that the region holds: 512; when there are more, vmalloc space gives another such region."""
KERNEL_LOAD = 0x100000
"""Physical address of the kernel's image."""


@dataclass(frozen=True, slots=True)
class Region:
    """Linear addresses [start, end) and what they are for."""

    name: str
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Layout:
    """The kernel's linear address space for one machine."""

    direct: Region
    kva: Region
    vmemmap: Region
    vmalloc: Region
    pkmap: Region
    kstacks: Region
    fixmap: Region

    @property
    def regions(self) -> tuple[Region, ...]:
        every = self.direct, self.kva, self.vmemmap, self.vmalloc, self.pkmap, self.kstacks, self.fixmap
        return tuple(region for region in every if region.size)

    @property
    def direct_frames(self) -> int:
        """Frames below this number are lowmem: reachable through the direct map."""
        return self.direct.size // PAGE_SIZE

    def region_of(self, linear: int) -> Region | None:
        """The region that a linear address lies in, or None for a gap."""
        for region in self.regions:
            if region.start <= linear < region.end:
                return region
        return None


def kstack_page(number: int, base: int = KSTACK_BASE) -> int:
    """Linear address of the page of kernel stack ``number`` in a region at ``base``; the page below is its guard.

    The number's 9 bits are read backwards, so that the first stacks are far apart: a frame larger than the guard page,
    which steps over it, meets nothing either while there are few.
    """
    slot = int(f"{KSTACKS - 1 - number:09b}"[::-1], 2)
    return base + slot * KSTACK_SLOT + PAGE_SIZE


def _round_up(value: int) -> int:
    return (value + REGION - 1) // REGION * REGION


def scaled_direct_map(ram: int) -> int:
    """Bytes of direct map that are to ``ram`` bytes what 800 MB are to 1 GB, in whole regions."""
    share = ram * (DIRECT_MAP >> 20) // 1024 // REGION * REGION
    return min(max(share, SMALLEST_DIRECT_MAP), DIRECT_MAP)


def plan(low_ram: int, direct_limit: int, vmemmap: int = 0) -> Layout:
    """Lay the regions out for ``low_ram`` bytes of RAM below 4 GB and a direct map of at most ``direct_limit``.

    ``vmemmap`` is the size of the virtual mem_map.  Raises ConfigurationError when the gigabyte is too small.
    """
    direct = min(_round_up(low_ram), direct_limit)
    kva_start = PAGE_OFFSET + direct
    room = PKMAP_BASE - 2 * VMALLOC_GAP - kva_start - VMALLOC_RESERVE - vmemmap
    if room < REGION:
        raise ConfigurationError(
            f"the kernel's gigabyte is too small: a direct map of {direct >> 20} MB and a virtual mem_map of "
            f"{vmemmap >> 20} MB leave no room for vmalloc",
            "take less RAM, another memory model, a smaller --direct-map, or --highmem 4G, which ignores the rest",
        )
    kva = min(KVA_BYTES, _round_up(low_ram // 8), room)
    vmemmap_start = kva_start + kva
    vmalloc_start = vmemmap_start + vmemmap + VMALLOC_GAP
    return Layout(
        Region("direct map", PAGE_OFFSET, kva_start),
        Region("kva pool", kva_start, vmemmap_start),
        Region("virtual mem_map", vmemmap_start, vmemmap_start + vmemmap),
        Region("vmalloc", vmalloc_start, PKMAP_BASE - VMALLOC_GAP),
        Region("pkmap", PKMAP_BASE, PKMAP_END),
        Region("kernel stacks", KSTACK_BASE, KSTACK_END),
        Region("fixmap", FIXADDR_START, FIXADDR_END),
    )
