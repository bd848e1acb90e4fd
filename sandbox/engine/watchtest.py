"""What must hold of the engine before somebody relies on watches: known accesses, provoked once a process.

Which functions ask about a watched page, with which arguments and on which stack, is nobody's promise.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Halt, Trap, Watched
from sandbox.engine.library import UnknownEngine
from sandbox.engine.watch import READ, WALK, WRITE, Hit, Watches
from sandbox.x86.masks import CR0_PAGED, CR4_SSE
from sandbox.x86.paging import RW, US, A, D, P

_PHYSICAL = 0x10000
_ROOT, _TABLE, _CODE, _DATA, _NEXT = (_PHYSICAL + page * 0x1000 for page in range(5))
_LINEAR = 0x400000
_PAGE = _LINEAR + 0x2000
_FULL = P | RW | US | A | D
_PATTERN = bytes(range(1, 33))

_CASES = (
    # code, what is watched of the second data page, and the access: offset, bytes, store
    ("a1 10204000", (0x13, 0x14), (0x10, 4, False)),  # mov eax, [page+0x10]
    ("a1 11204000", (0x14, 0x15), (0x11, 4, False)),
    ("66a1 13204000", (0x14, 0x15), (0x13, 2, False)),
    ("dd05 03204000", (0x0A, 0x0B), (3, 8, False)),  # fld qword ptr [page+3]
    ("a1 11204000", (0x10, 0x11), None),
    ("a1 fe1f4000", (0x1, 0x2), (-2, 4, False)),  # mov eax, [page-2]
    ("a3 10204000", (0x13, 0x14), (0x10, 4, True)),  # mov [page+0x10], eax
    ("a3 11204000", (0x14, 0x15), (0x11, 4, True)),
    ("a3 11204000", (0x15, 0x16), None),
    ("a3 fe1f4000", (0x0, 0x1), (-2, 4, True)),
    ("a3 fe1f4000", (-1, 0), (-2, 4, True)),
    ("66a3 ff1f4000", (0x0, 0x1), (-1, 2, True)),
    ("0f7f05 fd1f4000", (0x4, 0x5), (-3, 8, True)),  # movq [page-3], mm0
)  # fmt: skip

_verified = False


def watch(cpus: list[Cpu]) -> Watches:
    """Watches of some CPUs.  Raises NoWatch, and UnknownEngine when the engine does not behave as 2.1.4."""
    global _verified
    watches = Watches(cpus)
    if not _verified:
        verify()
        _verified = True
    return watches


def verify() -> None:
    """Run a few accesses, watched by linear and by physical address.  Raises UnknownEngine."""
    with _bench() as (cpu, memory):
        watches = Watches([cpu])
        for code, watched, wanted in _CASES:
            for physical in (False, True):
                seen = [] if (hit := _seen(watches, memory, code, watched, physical)) is None else [hit]
                found = [(each.linear - _PAGE, each.size, each.write) for each in seen]
                _expect(f"an access by {code}", found, [wanted] if wanted else [])
        _walk(watches, memory)
        _guests(cpu, memory)


def _expect(what: str, seen: object, wanted: object) -> None:
    if seen != wanted:
        raise UnknownEngine(f"the engine does not let {what} be watched as 2.1.4 does", f"{seen}, wanted {wanted}")


@contextmanager
def _bench() -> Iterator[tuple[Cpu, mmap.mmap]]:
    memory = mmap.mmap(-1, 5 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    struct.pack_into("<I", memory, 4, _TABLE | _FULL)
    struct.pack_into("<3I", memory, 0x1000, _CODE | _FULL, _DATA | _FULL, _NEXT | _FULL)
    cpu = Cpu()
    try:
        cpu.map_ram(_PHYSICAL, len(memory), ctypes.addressof(ctypes.c_char.from_buffer(memory)))
        yield cpu, memory
    finally:
        cpu.close()


def _prepare(cpu: Cpu, memory: mmap.mmap, code: str) -> None:
    raw = bytes.fromhex(code) + b"\xf4"
    memory[_CODE - _PHYSICAL : _CODE - _PHYSICAL + len(raw)] = raw
    memory[_NEXT - _PHYSICAL : _NEXT - _PHYSICAL + len(_PATTERN)] = _PATTERN
    cpu.reset()
    cpu.drop_all_code()
    state = cpu.context
    state.cr0, state.cr3, state.cr4, state.eip = CR0_PAGED, _ROOT, CR4_SSE, _LINEAR
    state.resumes_at = state.passes = state.watched = -1


def _seen(watches: Watches, memory: mmap.mmap, code: str, watched: tuple[int, int], physical: bool) -> Hit | None:
    """The one access that a watch of part of the second page sees, if any."""
    (cpu,), (first, end) = watches.cpus, watched
    _prepare(cpu, memory, code)
    starts = {False: _PAGE, True: _NEXT if first >= 0 else _DATA + 0x1000}
    watches.add(starts[physical] + first, starts[physical] + end, READ | WRITE, physical=physical)
    exit_ = cpu.run(8)
    hit = watches.stopped_by(cpu) if isinstance(exit_, Watched) else None
    if hit is not None:
        _expect("the instruction", (exit_.eip, isinstance(cpu.run(8), Halt)), (_LINEAR, True))
    watches.clear()
    return hit


def _walk(watches: Watches, memory: mmap.mmap) -> None:
    """The dirty bit, set by a store's walk."""
    (cpu,) = watches.cpus
    struct.pack_into("<I", memory, 0x1008, _NEXT | _FULL & ~D)
    _prepare(cpu, memory, "a3 10204000")
    watches.add(_TABLE + 8, _TABLE + 12, WRITE, physical=True)
    exit_ = cpu.run(8)
    hit = watches.stopped_by(cpu)
    watches.clear()
    _expect("a walk", (type(exit_), hit.kind, hit.old, hit.new), (Watched, WALK, _NEXT | _FULL & ~D, _NEXT | _FULL))


def _guests(cpu: Cpu, memory: mmap.mmap) -> None:
    """A data breakpoint of the guest's own."""
    _prepare(cpu, memory, "a3 11204000")
    cpu.context.set_debug_register(0, _PAGE + 0x14)
    cpu.context.set_debug_register(7, 1 | 1 << 16)
    _expect("DR0", (cpu.run(8), cpu.context.debug_register(6) & 15), (Trap(_LINEAR + 5, 1, 0, 0, 0, False), 1))
