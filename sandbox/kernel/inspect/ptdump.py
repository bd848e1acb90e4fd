"""The page walk of a stopped machine, for people: every level read from guest memory, nothing touched."""

from __future__ import annotations

from sandbox.kernel.kernel import Kernel
from sandbox.x86.walk import Access, Walk, walk


def walk_address(kernel: Kernel, cr3: int, linear: int, access: Access) -> Walk:
    """The walk by the manual, with this machine's control registers."""
    template = kernel.cpus[0].template
    memory = kernel.memory

    def read(physical: int, size: int) -> int:
        at = memory.host_index(physical)
        return int.from_bytes(memory.bytes[at : at + size], "little")

    return walk(read, cr3, linear, access, cr0=template.cr0, cr4=template.cr4, efer=template.efer)


def walk_lines(kernel: Kernel, cr3: int, linear: int, error_code: int) -> list[str]:
    """One line a level and a verdict, for the access that an error code tells of."""
    return walk_address(kernel, cr3, linear, Access.of_error_code(error_code)).lines()
