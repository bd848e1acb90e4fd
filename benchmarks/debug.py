"""What a debugger asks of the engine: watches, on their page and elsewhere, and single steps; processor time."""

from __future__ import annotations

import ctypes
import mmap
import struct
import time
from collections.abc import Iterator
from functools import partial

from benchmarks import debugger, gdbsteps
from benchmarks.measure import Row, interleaved
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Halt
from sandbox.engine.watch import READ, WRITE, Watches
from sandbox.x86.masks import CR0_PAGED, CR4_SSE
from sandbox.x86.paging import RW, US, A, D, P

ROUNDS = 400_000
STEPS = 2000
_ROOT, _TABLE, _CODE, _DATA, _OTHER = (page * 0x1000 for page in range(5))
_LINEAR = 0x400000
_PAGE, _UNUSED = _LINEAR + 0x1000, _LINEAR + 0x2000
_FULL = P | RW | US | A | D
_LOAD = "8b0540104000"  # mov eax, [page+0x40]
_STORE = "890540104000"  # mov [page+0x40], eax
_LOOP = "49 75f7"  # dec ecx; jnz to the access, 6 bytes long


class Bench:
    """A CPU with a loop over one access, on a page of code and two of data."""

    def __init__(self, access: str) -> None:
        self.memory = mmap.mmap(-1, 5 * 0x1000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        struct.pack_into("<I", self.memory, 4, _TABLE | _FULL)
        struct.pack_into("<3I", self.memory, _TABLE, *(page | _FULL for page in (_CODE, _DATA, _OTHER)))
        code = bytes.fromhex(access + _LOOP + "f4")
        self.memory[_CODE : _CODE + len(code)] = code
        self.cpu = Cpu()
        self.cpu.map_ram(0, len(self.memory), ctypes.addressof(ctypes.c_char.from_buffer(self.memory)))
        self.watches = Watches([self.cpu])

    def seconds(self, watched: int | None, physical: bool) -> float:
        """Of ROUNDS accesses, with a word watched or none."""
        self.watches.clear()
        if watched is not None:
            self.watches.add(watched, watched + 4, READ | WRITE, physical=physical)
        self._start()
        began = time.process_time()
        if not isinstance(self.cpu.run(1 << 40), Halt):
            raise RuntimeError("the loop was stopped")
        return time.process_time() - began

    def step_seconds(self) -> float:
        """Of STEPS single steps."""
        self.watches.clear()
        self._start()
        began = time.process_time()
        for _ in range(STEPS):
            self.cpu.run(1 << 40, 1)
        return time.process_time() - began

    def _start(self) -> None:
        self.cpu.reset()
        state = self.cpu.context
        state.cr0, state.cr3, state.cr4, state.eip = CR0_PAGED, _ROOT, CR4_SSE, _LINEAR
        state.quads[1] = ROUNDS
        state.resumes_at = state.passes = -1


def rows() -> Iterator[Row]:
    for name, access in (("load", _LOAD), ("store", _STORE)):
        bench = Bench(access)
        yield from _watches(bench, name)
        if name == "load":
            took = interleaved({"step": bench.step_seconds})["step"] / STEPS
            yield Row("a single step", 1e6 * took, "µs", 10)
        bench.cpu.close()
    yield from debugger.rows()
    yield from gdbsteps.rows()


def _watches(bench: Bench, name: str) -> Iterator[Row]:
    samplers = {"none": partial(bench.seconds, None, False)}
    for how, elsewhere, here in (("linear", _UNUSED, _PAGE), ("physical", _OTHER, _DATA)):
        samplers[f"{how}, elsewhere"] = partial(bench.seconds, elsewhere, how == "physical")
        samplers[f"{how}, here"] = partial(bench.seconds, here, how == "physical")
    took = interleaved(samplers)
    for how in ("linear", "physical"):
        share, more = took["none"] / took[f"{how}, elsewhere"], took[f"{how}, here"] / ROUNDS
        yield Row(f"{name}s with a {how} watch on another page", 100 * share, "%", 90, True)
        yield Row(f"a {name} on the page of a {how} watch", 1e9 * more, "ns", 100)
