"""The stock binding used as its documentation suggests, on a Memory: what the engine's room is for."""

from __future__ import annotations

from collections.abc import Callable

import unicorn
from unicorn import unicorn_const as uc
from unicorn import x86_const as x86

from sandbox.x86.masks import CR0_PAGED
from tests.engine.board import CODE, DIRECTORY, RAM, STACK, Memory


class Naive:
    """A ``unicorn.Uc`` over a Memory, paging on, ring 0, one interrupt hook that records and stops."""

    def __init__(self, board: Memory, model: int | None = None) -> None:
        self.uc = unicorn.Uc(uc.UC_ARCH_X86, uc.UC_MODE_32)
        if model is not None:
            self.uc.ctl_set_cpu_model(model)
        self.uc.mem_map_ptr(0, RAM, uc.UC_PROT_ALL, board.host_address)
        self._keep = board
        self.vectors: list[int] = []
        self.on_interrupt: Callable[[int], None] = lambda vector: self.uc.emu_stop()
        self.uc.hook_add(uc.UC_HOOK_INTR, self._interrupt)
        self.uc.ctl_exits_enabled(True)
        self.uc.ctl_set_exits([])
        self.uc.reg_write(x86.UC_X86_REG_CR4, 0x630 if board.pae else 0x610)
        if board.pae:
            self.uc.msr_write(0xC0000080, 0x800)
        self.uc.reg_write(x86.UC_X86_REG_CR3, DIRECTORY)
        self.uc.reg_write(x86.UC_X86_REG_CR0, CR0_PAGED)
        self.uc.reg_write(x86.UC_X86_REG_ESP, STACK + 0x2000)

    def _interrupt(self, _: object, vector: int, __: object) -> None:
        self.vectors.append(vector)
        self.on_interrupt(vector)

    def run(self, begin: int = CODE, until: int = 0, count: int = 0) -> None:
        """``until`` is switched off, but for a run that gives one."""
        self.uc.ctl_exits_enabled(not until)
        self.uc.emu_start(begin, until, count=count)

    def read(self, register: str) -> int:
        return int(self.uc.reg_read(getattr(x86, f"UC_X86_REG_{register.upper()}")))

    def write(self, register: str, value: int) -> None:
        self.uc.reg_write(getattr(x86, f"UC_X86_REG_{register.upper()}"), value)
