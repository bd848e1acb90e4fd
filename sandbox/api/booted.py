"""A kernel that has booted and runs nothing: its tables, its memory, its record."""

from __future__ import annotations

from typing import Any, Self, Unpack

from sandbox.api.options import Options, kernel_configuration
from sandbox.debug.physical import frame_dict
from sandbox.debug.view import map_dict
from sandbox.kernel.inspect.ptdump import walk_address
from sandbox.runner.session import MachineSession
from sandbox.runner.target import Target
from sandbox.x86.paging import PAGE_SIZE
from sandbox.x86.walk import Access, Walk


class Kernel:
    """One machine with its kernel, released by ``close`` or at the end of a ``with``.

    ``system.kernel`` is the record of all its parts (``docs/architecture.md``), which may move between versions.
    Raises ConfigurationError.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        self._session = MachineSession.idle(kernel_configuration(Target("kernel", "program", b""), options))
        self.system = self._session.system

    def walk(self, linear: int, access: str = "r", *, user: bool = False) -> Walk:
        """The walk of a linear address through the kernel's own tables; ``access`` is r, w or x."""
        tables = self.system.kernel.tables
        wanted = Access(write=access == "w", fetch=access == "x", user=user)
        return walk_address(self.system.kernel, tables.cr3(tables.kernel_pgd), linear, wanted)

    def read(self, linear: int, size: int) -> bytes:
        """Bytes at a linear address of the kernel's; short where nothing is mapped."""
        found = b""
        while size > 0 and (physical := self.walk(linear).physical) is not None:
            piece = self.read_physical(physical, min(size, PAGE_SIZE - linear % PAGE_SIZE))
            if not piece:
                break
            found, linear, size = found + piece, linear + len(piece), size - len(piece)
        return found

    def read_physical(self, physical: int, size: int) -> bytes:
        """Bytes of RAM; empty where there is none."""
        memory = self.system.kernel.memory
        if size <= 0 or not memory.is_ram(physical, size):
            return b""
        at = memory.host_index(physical)
        return bytes(memory.bytes[at : at + size])

    def maps(self) -> dict[str, Any]:
        """Regions of kernel addresses and what lies in them, as ``sandbox maps --json`` has them."""
        return map_dict(self.system, None)

    def frames(self) -> dict[str, Any]:
        """Physical memory, as ``sandbox frames --json`` has it."""
        return frame_dict(self.system.kernel)

    def close(self) -> None:
        """Release the machine."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
