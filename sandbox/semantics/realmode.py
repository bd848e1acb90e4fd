"""The sandbox's CPU in real mode with 16 MB of RAM and no device: who executes MOO files.

Exceptions and interrupts go through the vector table at 0, as on the bare machine (``sandbox.machine.delivery``).  All
ports read as ones.  An instruction ends at the HLT that the file has put behind it, or where it, or the handler, leads.
"""

from __future__ import annotations

from sandbox.engine import mends
from sandbox.engine.cpu import Cpu, EngineAbortError
from sandbox.engine.exits import BlocksSpent, Exit, Halt, Paused, Trap
from sandbox.engine.ticks import ticking
from sandbox.machine.delivery import Interruption, Shutdown, Source, deliver
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.semantics.moo import REACH
from sandbox.semantics.vector import HANG, Fault, Result, Vector
from sandbox.x86.masks import CR0_ET
from sandbox.x86.paging import PAGE_SIZE

RAM = 16 << 20
BLOCKS = 20_000
NOWHERE = HANG - 1
_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
_PAUSES = 4
"""Tenths of a second for a straight line without an end, which no count of blocks stops: EIP goes on behind FFFFh."""
_HLT = b"\xf4"


class RealModeCpu:
    """Vectors in real mode: ``eip`` is an offset in CS, ``memory`` physical, ``written`` are bytes, and an exception is
    told beside the state that its delivery left."""

    def __init__(self) -> None:
        self.memory = PhysicalMemory(RAM)
        self.memory.close_isa_hole()
        self.cpu = Cpu()
        self.name = f"sandbox ({mends.chosen()}), real mode"
        self.memory.map_into(self.cpu)
        self.cpu.connect_ports(lambda port, size: (1 << 8 * size) - 1, lambda port, size, value: None)
        state = self.cpu.context
        state.cr0, state.cr4 = CR0_ET, 0
        state.set_segment("idtr", 0, 0, 0x3FF, 0)
        self._start = self.cpu.new_context()
        self._zeros = bytes(REACH)

    def run(self, vectors: list[Vector]) -> list[Result]:
        """Results in order."""
        with ticking():
            return [self._execute(vector) for vector in vectors]

    def close(self) -> None:
        self.cpu.close()

    def _execute(self, vector: Vector) -> Result:
        for address, data in vector.memory:
            self.memory.host_write(address, data, Reason.IMAGE)
        self.cpu.drop_all_code()
        self._load(vector)
        fault = self._to_its_end()
        state = self.cpu.context
        return Result(
            tuple(state.quads[:8]),
            state.eip,
            state.eflags,
            tuple(state.segment(name).selector for name in _SEGMENTS),
            self._written(vector),
            fault,
        )

    def _load(self, vector: Vector) -> None:
        state = self.cpu.context
        state.data[:] = self._start.data
        state.resumes_at = state.passes = state.watched = -1
        for slot, value in enumerate(vector.registers):
            state.quads[slot] = value
        for name, selector in zip(_SEGMENTS, vector.selectors, strict=True):
            state.set_segment(name, selector, selector << 4, 0xFFFF, 0x9B00 if name == "cs" else 0x9300)
        state.eip, state.eflags = vector.eip, vector.eflags

    def _to_its_end(self) -> Fault | None:
        """To a HLT; what was raised on the way there.  A handler that is none of the file's does not run."""
        exit_ = self._run()
        fault = None
        if isinstance(exit_, Trap):
            fault = Fault(exit_.vector)
            if not self._deliver(exit_) or self.memory.read(self.cpu.context.linear_eip, 1) != _HLT:
                return fault
            exit_ = self._run()
        if isinstance(exit_, Halt):
            return fault
        return Fault(HANG if exit_ is None or isinstance(exit_, BlocksSpent) else NOWHERE)

    def _run(self) -> Exit | None:
        """None where there is no end of it."""
        try:
            for _ in range(_PAUSES):
                exit_ = self.cpu.run(BLOCKS)
                if not isinstance(exit_, Paused):
                    return exit_
        except EngineAbortError:
            pass
        return None

    def _deliver(self, trap: Trap) -> bool:
        source = Source.SOFTWARE if trap.software else Source.EXCEPTION
        try:
            deliver(self.memory, self.cpu.context, Interruption(trap.vector, source, trap.eip, trap.eip))
        except Shutdown:
            return False
        self.cpu.context.resumes_at = -1
        return True

    def _written(self, vector: Vector) -> tuple[tuple[int, int], ...]:
        """Bytes that are not as the vector put them; and all RAM that it can reach is 0 again."""
        now = self.memory.read(0, REACH)
        before = bytearray(self._zeros)
        for address, data in vector.memory:
            before[address : address + len(data)] = data
        if now != before:
            places = _differing(now, bytes(before))
            self.memory.host_write(0, self._zeros, Reason.IMAGE)
            return tuple((at, now[at]) for at in places)
        for address, data in vector.memory:
            self.memory.host_fill(address, len(data), 0, Reason.IMAGE)
        return ()


def _differing(now: bytes, before: bytes) -> list[int]:
    """Where two long pieces differ, looked for a page at a time."""
    return [
        at
        for page in range(0, len(now), PAGE_SIZE)
        if now[page : page + PAGE_SIZE] != before[page : page + PAGE_SIZE]
        for at in range(page, min(page + PAGE_SIZE, len(now)))
        if now[at] != before[at]
    ]
