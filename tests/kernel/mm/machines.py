"""Kernels for tests of what lies below programs, and a module's view of memory."""

from __future__ import annotations

from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.fs.namespace import FileSystem
from sandbox.kernel.inspect.ptdump import walk_address
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.main import System, start_kernel
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.page_mapper import PageMapper
from sandbox.kernel.task.task import Task
from sandbox.runner.machine import build_machine
from sandbox.runner.run import Session
from sandbox.x86.walk import Access

PAGE = 4096


def boot_system(paging: str = "pae", ram: int = 16 << 20, **config: object) -> System:
    """A kernel that runs nothing yet, and what stands above it."""
    made = KernelConfig(paging=paging, ram=ram, **config)  # type: ignore[arg-type]
    return start_kernel(build_machine(made), made, FileSystem())


def boot(paging: str = "pae", ram: int = 16 << 20, **config: object) -> Kernel:
    """The kernel alone."""
    return boot_system(paging, ram, **config).kernel


def current_task(session: Session) -> tuple[Task, Mm]:
    """The loaded program as its CPU's current task, its address space in CR3, before its first instruction."""
    task = session.load()
    assert task.mm is not None
    task.cpu.current = task
    session.kernel.mmu.switch_mm(task.cpu, task.mm)
    return task, task.mm


def load(kernel: Kernel, linear: int, cpu: int | None = None) -> int:
    """A word as guest kernel code loads it: on the present CPU, or on one by index."""
    return (kernel.this_cpu if cpu is None else kernel.cpus[cpu]).call_c(kernel.image.symbols["readl"], linear)


def high(kernel: Kernel, count: int = 1) -> list[int]:
    """Frames of highmem; the first word of each is its number."""
    frames = [kernel.page_alloc.alloc_page(GFP_HIGHUSER) for _ in range(count)]
    assert min(frames) >= kernel.layout.direct_frames
    for pfn in frames:
        window = kernel.highmem.kmap_atomic(kernel.this_cpu, pfn)
        kernel.this_cpu.store(window, pfn.to_bytes(4, "little") + bytes(124))
        kernel.highmem.kunmap_atomic(kernel.this_cpu, window)
    return frames


def used(kernel: Kernel, pool: PageMapper, pfn: int, cpu: int = 0) -> int:
    """Map, load, give back: the address; what was loaded must be the page's."""
    linear = pool.map(kernel.cpus[cpu], pfn)
    assert load(kernel, linear, cpu) == pfn
    pool.unmap(kernel.cpus[cpu], pfn, linear)
    return linear


def store(kernel: Kernel, linear: int, value: int) -> None:
    """A word as guest kernel code stores it."""
    kernel.this_cpu.call_c(kernel.image.symbols["writel"], value, linear)


def physical(kernel: Kernel, linear: int) -> int | None:
    """The walk by the manual in the kernel's own directory: a physical address, None where nothing is mapped."""
    cr3 = kernel.tables.cr3(kernel.tables.kernel_pgd)
    return walk_address(kernel, cr3, linear, Access.of_error_code(0)).physical
