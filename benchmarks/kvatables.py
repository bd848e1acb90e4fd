"""``python -m benchmarks.kvatables``: what the kva pool's 4 KB tables cost beside the direct map's large pages.

One work twice: guest code loads a word of each of N pages, in order, some passes long; once pages of lowmem through the
direct map, once pages of highmem through the pool.  Counted: frames of page tables that it took, entries that walks
read, and misses of a TLB as large as a Pentium II's (SDM 2A, CPUID: descriptors 03H, data, 4 KB pages, 64 entries, and
04H, large pages, 8), LRU, fed with the walks' linear addresses and page sizes.  The engine's own TLB keeps large
pages in pieces of 4 KB and knows no such limit, so that only its walks tell.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.layout import MEGABYTE
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.gfp import GFP_HIGHUSER, GFP_USER
from sandbox.machine.events import TlbMiss
from sandbox.runner.session import MachineSession
from sandbox.x86.paging import PAGE_SIZE

SMALL_ENTRIES, LARGE_ENTRIES = 64, 8


@dataclass
class TableCost:
    """Frames of tables; page table entries read and walks, of the first pass (the engine keeps what it walked once);
    misses of the model in all passes."""

    tables: int = 0
    walks: int = 0
    entries: int = 0
    misses: int = 0


class ModelTlb:
    """Two sets of entries, small and large, each fully associative and LRU."""

    def __init__(self) -> None:
        self._held = {False: OrderedDict[int, None](), True: OrderedDict[int, None]()}
        self.misses = 0

    def use(self, linear: int, size: int) -> None:
        """An access to an address that lies in a page of ``size`` bytes."""
        large = size > PAGE_SIZE
        held, page = self._held[large], linear // size
        if page in held:
            held.move_to_end(page)
            return
        self.misses += 1
        held[page] = None
        if len(held) > (LARGE_ENTRIES if large else SMALL_ENTRIES):
            held.popitem(last=False)


def measure(paging: str, pages: int, passes: int = 2) -> dict[str, TableCost]:
    """The costs by ``direct`` and ``pool``.  Raises NoFeed."""
    found = {}
    for name in ("direct", "pool"):
        config = KernelConfig(ram=64 * MEGABYTE, boot="highmem=32m", paging=paging)
        with MachineSession.idle(config) as session:
            found[name] = _work(session, name == "pool", pages, passes)
    return found


def _work(session: MachineSession, pool: bool, pages: int, passes: int) -> TableCost:
    kernel, cost, model = session.kernel, TableCost(), ModelTlb()
    frames = [kernel.page_alloc.alloc_page(GFP_HIGHUSER if pool else GFP_USER) for _ in range(pages)]
    before = kernel.table_frames.held
    addresses = [kernel.kva.map(kernel.this_cpu, pfn) for pfn in frames]
    cost.tables = kernel.table_frames.held - before
    wanted, sizes = {at // PAGE_SIZE for at in addresses}, dict[int, int]()

    def seen(event: TlbMiss) -> None:
        if event.linear // PAGE_SIZE in wanted:
            cost.walks += 1
            cost.entries += len(event.entries)
            sizes[event.linear // PAGE_SIZE] = event.size

    session.trace_walks()
    kernel.bus.subscribe(seen, TlbMiss)
    _load_all(kernel, addresses)
    assert session.tlb_watch is not None
    session.tlb_watch.feed.drain()
    for _ in range(passes):
        for at in addresses:
            model.use(at, sizes[at // PAGE_SIZE])
    cost.misses = model.misses
    return cost


def _load_all(kernel: Kernel, addresses: list[int]) -> None:
    readl = kernel.image.symbols["readl"]
    kernel.tlb.flush_tlb_all(kernel.this_cpu)
    for at in addresses:
        kernel.this_cpu.call_c(readl, at)


def main() -> None:
    """A row for each format and way."""
    print(f"{'':22}{'tables':>8}{'walks':>8}{'entries':>9}{'misses':>8}")
    for paging in ("legacy", "pae"):
        for name, cost in measure(paging, 2048).items():
            counts = f"{cost.tables:8,}{cost.walks:8,}{cost.entries:9,}{cost.misses:8,}"
            print(f"{paging + ', ' + name:22}{counts}")


if __name__ == "__main__":
    main()
