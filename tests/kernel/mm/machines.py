"""Kernels for tests of what lies below programs, and a module's view of memory."""

from __future__ import annotations

from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.fs.namespace import FileSystem
from sandbox.kernel.inspect.ptdump import walk_address
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.main import System, start_kernel
from sandbox.runner.machine import build_machine
from sandbox.x86.walk import Access

PAGE = 4096


def boot_system(paging: str = "pae", ram: int = 16 << 20, **config: object) -> System:
    """A kernel that runs nothing yet, and what stands above it."""
    made = KernelConfig(paging=paging, ram=ram, **config)  # type: ignore[arg-type]
    return start_kernel(build_machine(made), made, FileSystem())


def boot(paging: str = "pae", ram: int = 16 << 20, **config: object) -> Kernel:
    """The kernel alone."""
    return boot_system(paging, ram, **config).kernel


def load(kernel: Kernel, linear: int) -> int:
    """A word as guest kernel code loads it."""
    return kernel.this_cpu.call_c(kernel.image.symbols["readl"], linear)


def store(kernel: Kernel, linear: int, value: int) -> None:
    """A word as guest kernel code stores it."""
    kernel.this_cpu.call_c(kernel.image.symbols["writel"], value, linear)


def physical(kernel: Kernel, linear: int) -> int | None:
    """The walk by the manual in the kernel's own directory: a physical address, None where nothing is mapped."""
    cr3 = kernel.tables.cr3(kernel.tables.kernel_pgd)
    return walk_address(kernel, cr3, linear, Access.of_error_code(0)).physical
