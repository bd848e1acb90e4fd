"""Reaching pages of highmem from Python, against the bare cost of a trap: windows, the pool, a copy, a shootdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks import programs
from benchmarks.bare import BareCpu
from benchmarks.measure import Row, interleaved, seconds
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.runner.session import MachineSession

TIMES = 500
SLOTS = 64
BARS = {
    "kva hit": 0.5, "kva miss with recycle": 3.5, "kmap_atomic pair": 5.5, "copy from highmem to highmem": 14.0,
    "shootdown of 2 CPUs": 10.5, "shootdown of 4 CPUs": 20.5,
}  # fmt: skip


def rows() -> Iterator[Row]:
    trip = BareCpu(programs.touching())
    machines = {cpus: _machine(cpus) for cpus in (2, 4)}
    kernel = machines[2].kernel
    pages = [kernel.page_alloc.alloc_page(GFP_HIGHUSER) for _ in range(2 * SLOTS)]
    assert not any(kernel.highmem.is_low(pfn) for pfn in pages)
    work: dict[str, Callable[[], float]] = {
        "trip": lambda: trip.faulting_seconds() / programs.PAGES,
        "kva hit": lambda: _each(lambda at: _mapped(kernel, pages[0])),
        "kva miss with recycle": lambda: _each(lambda at: _mapped(kernel, pages[at % (2 * SLOTS)])),
        "kmap_atomic pair": lambda: _each(lambda at: _window(kernel, pages[0])),
        "copy from highmem to highmem": lambda: _each(
            lambda at: kernel.highmem.copy_highpage(kernel.this_cpu, pages[0], pages[1])
        ),
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
    return MachineSession.idle(KernelConfig(ram=64 << 20, cpus=cpus, boot=f"highmem=32m kva={4 * SLOTS}k"))


def _each(work: Callable[[int], object]) -> float:
    return seconds(lambda: [work(at) for at in range(TIMES)]) / TIMES


def _mapped(kernel: Kernel, pfn: int) -> None:
    kernel.kva.unmap(kernel.this_cpu, pfn, kernel.kva.map(kernel.this_cpu, pfn))


def _window(kernel: Kernel, pfn: int) -> None:
    kernel.highmem.kunmap_atomic(kernel.this_cpu, kernel.highmem.kmap_atomic(kernel.this_cpu, pfn))
