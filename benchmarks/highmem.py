"""Reaching pages of highmem, against the bare cost of a trap: windows, pools, a copy, a fault that copies, a shootdown.

All but the fault are asked for from Python, as a handler of the kernel does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

from benchmarks import programs
from benchmarks.bare import BareCpu
from benchmarks.kernelrun import marked_seconds
from benchmarks.measure import Row, interleaved
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.runner.session import MachineSession

TIMES = 3000
SLOTS = 64
HIGHMEM = "highmem=32m"
"""Boot option of all machines, which have 64 MB."""
BARS = {
    "kva hit": 0.5, "kva miss with recycle": 3.2, "kmap hit": 0.8, "kmap miss with recycle": 2.6,
    "kmap_atomic pair": 4.3, "copy from highmem to highmem": 11.5, "cow-copy fault, highmem to highmem": 14.5,
    "shootdown of 2 CPUs": 8.5, "shootdown of 4 CPUs": 16.5,
}  # fmt: skip


def rows() -> Iterator[Row]:
    trip, cow = BareCpu(programs.touching()), programs.cow_copies()
    machines = {cpus: _machine(cpus) for cpus in (2, 4)}
    kernel = machines[2].kernel
    pages = [kernel.page_alloc.alloc_page(GFP_HIGHUSER) for _ in range(2 * SLOTS)]
    assert not any(kernel.highmem.is_low(pfn) for pfn in pages)
    work: dict[str, Callable[[], float]] = {
        "trip": lambda: trip.faulting_seconds() / programs.PAGES,
        "kva hit": lambda: _each(lambda at: _mapped(kernel, pages[0])),
        "kva miss with recycle": lambda: _each(lambda at: _mapped(kernel, pages[at % (2 * SLOTS)])),
        "kmap hit": lambda: _each(lambda at: _kmapped(kernel, pages[0])),
        "kmap miss with recycle": lambda: _each(lambda at: _kmapped(kernel, pages[at % (2 * SLOTS)])),
        "kmap_atomic pair": lambda: _each(lambda at: _window(kernel, pages[0])),
        "copy from highmem to highmem": lambda: _each(
            lambda at: kernel.highmem.copy_highpage(kernel.this_cpu, pages[0], pages[1])
        ),
        "cow-copy fault, highmem to highmem": lambda: _fault(cow),
        "shootdown of 2 CPUs": lambda: _each(lambda at: machines[2].kernel.tlb.flush_tlb_all(kernel.this_cpu)),
        "shootdown of 4 CPUs": lambda: _each(
            lambda at: machines[4].kernel.tlb.flush_tlb_all(machines[4].kernel.this_cpu)
        ),
    }
    took = interleaved(work, 5)
    for name, bar in BARS.items():
        note = f"{took[name] * 1e6:.2f} µs against {took['trip'] * 1e6:.2f} µs"
        yield Row(f"{name} against the bare trap", took[name] / took["trip"], "x", bar, False, note)
    for session in machines.values():
        session.close()


def _machine(cpus: int) -> MachineSession:
    return MachineSession.idle(KernelConfig(ram=64 << 20, cpus=cpus, boot=f"{HIGHMEM} kva={4 * SLOTS}k pkmap={SLOTS}"))


def _fault(program: bytes) -> float:
    """Seconds of a fault: the first pass over the pages, which is the host's faults too, is left out."""
    return statistics.median(marked_seconds(program, boot=HIGHMEM)[1:]) / programs.PAGES


def _each(work: Callable[[int], object]) -> float:
    """Processor seconds of one: a shootdown is answered in this process, and others' load is not in it."""
    began = time.process_time()
    for at in range(TIMES):
        work(at)
    return (time.process_time() - began) / TIMES


def _mapped(kernel: Kernel, pfn: int) -> None:
    kernel.kva.unmap(kernel.this_cpu, pfn, kernel.kva.map(kernel.this_cpu, pfn))


def _kmapped(kernel: Kernel, pfn: int) -> None:
    kernel.kmap.unmap(kernel.this_cpu, pfn, kernel.kmap.map(kernel.this_cpu, pfn))


def _window(kernel: Kernel, pfn: int) -> None:
    kernel.highmem.kunmap_atomic(kernel.this_cpu, kernel.highmem.kmap_atomic(kernel.this_cpu, pfn))
