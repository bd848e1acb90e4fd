"""Breakage on purpose, for a bare machine: named steps of a processor that are left out.

An image's manifest names the switch under which it must fail, so that none passes for nothing.  Steps of a delivery are
left out by ``sandbox.machine.delivery``; for those that the engine takes, the machine runs instruction by instruction,
and this module steps over the instruction or takes its effect back.
"""

from __future__ import annotations

from sandbox.engine.cpu import Cpu
from sandbox.machine.memory import PhysicalMemory
from sandbox.x86.instruction import LONGEST_INSTRUCTION
from sandbox.x86.masks import CR0_WP, CR4_PSE, EFER_NXE
from sandbox.x86.paging import PAGE_SIZE
from sandbox.x86.walk import Access, walk

_BY_INSTRUCTION = frozenset({"no-invlpg", "no-large-pages", "no-wp", "no-nx"})


class Stepper:
    """Stands between single instructions when a switch needs it."""

    def __init__(self, memory: PhysicalMemory, switches: frozenset[str]) -> None:
        self._memory = memory
        self._switches = switches & _BY_INSTRUCTION

    @property
    def needed(self) -> bool:
        return bool(self._switches)

    def before(self, cpu: Cpu) -> None:
        """Step over the instruction at EIP if it is one to leave out."""
        if "no-invlpg" not in self._switches:
            return
        state = cpu.context
        while length := _invlpg_length(self._code(cpu)):
            state.eip = state.eip + length

    def after(self, cpu: Cpu) -> None:
        """Take back what the last instruction may have switched on."""
        state = cpu.context
        undone = False
        if "no-large-pages" in self._switches and state.cr4 & CR4_PSE:
            state.cr4, undone = state.cr4 & ~CR4_PSE, True
        if "no-wp" in self._switches and state.cr0 & CR0_WP:
            state.cr0, undone = state.cr0 & ~CR0_WP, True
        if "no-nx" in self._switches and state.efer & EFER_NXE:
            state.efer, undone = state.efer & ~EFER_NXE, True
        if undone:
            cpu.flush_tlb()

    def _code(self, cpu: Cpu) -> bytes:
        """The bytes at EIP as far as they are mapped, read without a trace."""
        state = cpu.context
        at, found = state.segment("cs").base + state.eip & 0xFFFFFFFF, b""
        while len(found) < LONGEST_INSTRUCTION:
            length = min(LONGEST_INSTRUCTION - len(found), PAGE_SIZE - at % PAGE_SIZE)
            step = walk(
                self._memory.read_entry,
                state.cr3,
                at,
                Access(fetch=True),
                cr0=state.cr0,
                cr4=state.cr4,
                efer=state.efer,
            )
            if step.physical is None or not self._memory.is_ram(step.physical, length):
                break
            found += self._memory.read(step.physical, length)
            at = at + length & 0xFFFFFFFF
        return found


def _invlpg_length(code: bytes) -> int:
    """Bytes of the INVLPG that the code begins with (0F 01 /7 with a memory operand, 32-bit addressing), or 0."""
    if len(code) < 3 or code[:2] != b"\x0f\x01" or code[2] >> 3 & 7 != 7 or code[2] >> 6 == 3:
        return 0
    mode, rm = code[2] >> 6, code[2] & 7
    length = 3
    base = rm
    if rm == 4:
        length, base = 4, code[3] & 7
    if mode == 1:
        return length + 1
    if mode == 2 or base == 5:
        return length + 4
    return length
