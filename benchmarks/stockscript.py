"""A Linux program on stock Unicorn as a script runs it: no paging, pages mapped and calls answered by Python hooks.

``python -m benchmarks.stockscript FILE``.  It knows the calls of ``benchmarks.programs``: exit, write, getpid, mmap2,
munmap.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from unicorn import UC_ARCH_X86, UC_HOOK_INTR, UC_HOOK_MEM_UNMAPPED, UC_MODE_32, Uc, x86_const

from sandbox.image.elf import parse_executable

PAGE = 4096
STACK = 0xBFFFF000
EXIT, WRITE, GETPID, MUNMAP, MMAP2 = 1, 4, 20, 91, 192
NO_CALL = -38
"""-ENOSYS."""


class Script:
    """One program; memory below ``next_mapping`` and above the program is mapped page by page as it is touched."""

    def __init__(self, program: bytes) -> None:
        self.uc: Any = Uc(UC_ARCH_X86, UC_MODE_32)
        self.status = 0
        self._pages: set[int] = set()
        self._next_mapping = 0x40000000
        parsed = parse_executable(program, "program")
        self.entry = parsed.entry
        for segment in parsed.segments:
            self._map(segment.vaddr, segment.filesz)
            self.uc.mem_write(segment.vaddr, program[segment.offset : segment.offset + segment.filesz])
        self._map(STACK, PAGE)
        self.uc.hook_add(UC_HOOK_INTR, self._call)
        self.uc.hook_add(UC_HOOK_MEM_UNMAPPED, self._fault)

    def run(self) -> int:
        """The program's exit status."""
        self.uc.reg_write(x86_const.UC_X86_REG_ESP, STACK + PAGE - 16)
        self.uc.emu_start(self.entry, 0)
        return self.status

    def _map(self, first: int, size: int) -> None:
        for page in range(first & -PAGE, first + size, PAGE):
            if page not in self._pages:
                self._pages.add(page)
                self.uc.mem_map(page, PAGE)

    def _fault(self, uc: Any, access: int, address: int, size: int, value: int, data: object) -> bool:
        self._map(address, size)
        return True

    def _call(self, uc: Any, vector: int, data: object) -> None:
        number, first, second, third = (
            uc.reg_read(getattr(x86_const, f"UC_X86_REG_{name}")) for name in ("EAX", "EBX", "ECX", "EDX")
        )
        result = NO_CALL
        if number == EXIT:
            self.status = first
            uc.emu_stop()
        elif number == WRITE:
            result = os.write(first, uc.mem_read(second, third))
        elif number == GETPID:
            result = 1
        elif number == MMAP2:
            result, self._next_mapping = self._next_mapping, self._next_mapping + second
        elif number == MUNMAP:
            result = self._unmap(first, second)
        uc.reg_write(x86_const.UC_X86_REG_EAX, result & 0xFFFFFFFF)

    def _unmap(self, first: int, size: int) -> int:
        for page in range(first, first + size, PAGE):
            if page in self._pages:
                self._pages.discard(page)
                self.uc.mem_unmap(page, PAGE)
        return 0


if __name__ == "__main__":
    sys.exit(Script(Path(sys.argv[1]).read_bytes()).run())
