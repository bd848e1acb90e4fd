"""Watchpoints on linear ranges: a run stops before a load or store that touches one, at the exact EIP.

QEMU's own watchpoints do it: its softmmu still asks ``cpu_watchpoint_address_matches`` at each TLB fill and
``cpu_check_watchpoint`` before an access through an entry that matched, and both are empty in 2.1.4.  While there is a
watch these two lead to ``native/watch.S``.  Pages without one run at full speed.

Not seen: fetches, the page walker, what Python stores.  An unaligned load is judged by the one or two aligned words
of its size that hold it, so that a neighbouring byte may stop it too.
"""

from __future__ import annotations

import ctypes
import functools
import mmap

from sandbox.engine import internals, stubs
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Exit
from sandbox.x86.errors import SandboxError

READ, WRITE = 1, 2
MOST = 64
CODE = bytes.fromhex(
    "31c08b0d081000004c8d05391000004801f283e90178234d8b084d85c974054939f97510493b7010730a493b50087604"
    "410b40184983c020ebd8c30f1f4400004885d27f0f488935d40f00004c890dd50f0000c34c3b0dcd0f000075224c8b15"
    "bc0f00004c89d0482500f0ffff4839f0750d4c89d64181e2ff0f00004c29d248c7059e0f0000000000008b0d800f0000"
    "4c8d15b10f00004c8d1c1683e9017825498b024885c074054839f87512493b7210730c4d3b5a08760645854218750749"
    "83c220ebd6c3488b05330f0000488b004885c074f048833d3b0f00000075e64889354a0f00004889154b0f00004c8905"
    "4c0f0000c74024080000005741514883ec08488b7850ff50084883c4085e5fff25f30e0000"
)
OFFSETS = {"matches": 0x0, "check": 0x40}
_SLOTS = {"matches": "cpu_watchpoint_address_matches_x86_64", "check": "cpu_check_watchpoint_x86_64"}


class NoWatch(SandboxError):
    """Memory cannot be watched here, or one watch too many."""

    exit_status = 2


class Entry(ctypes.Structure):
    """A watch: CPUState (0 for every CPU), linear range [first, end), READ | WRITE."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("cpu", "first", "end", "flags"))


class Data(ctypes.Structure):
    """What the stubs share with Python."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("cell", "leave", "count", "passing", "store_at", "store_back")),
        *((name, ctypes.c_uint64) for name in ("linear", "size", "how")),
        ("watches", Entry * MOST),
    )


@functools.cache
def pages() -> tuple[mmap.mmap, int, Data]:
    """A page of code and two of data, private to this process and to each of its forks; the first one's address."""
    made = mmap.mmap(-1, 3 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    made.write(CODE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(made))
    if stubs.libc().mprotect(ctypes.c_void_p(base), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "the host refuses executable memory for watchpoints")
    return made, base, Data.from_address(base + mmap.PAGESIZE)


class Watches:
    """The watches of some CPUs of one machine.  Raises NoWatch on hosts that are not x86-64 Linux."""

    def __init__(self, cpus: list[Cpu]) -> None:
        if not stubs.native_host():
            raise NoWatch("memory cannot be watched on this host", "It takes host code for x86-64 Linux.")
        self._cpus = cpus
        self._entries: list[tuple[int, int, int, int]] = []
        _, self._base, self._data = pages()
        self._data.cell = stubs.link_address("running")
        self._data.leave = internals.symbol("cpu_loop_exit_restore_x86_64")
        self._places = {stub: internals.slot(name) for stub, name in _SLOTS.items()}

    def add(self, first: int, end: int, flags: int, cpu: Cpu | None = None) -> None:
        """Stop at accesses of [first, end), linear; of all CPUs unless one is given."""
        if len(self._entries) == MOST:
            raise NoWatch(f"at most {MOST} ranges can be watched")
        if not 0 <= first < end <= 1 << 32 or not flags & (READ | WRITE):
            raise NoWatch(f"no range to watch: {first:#x} to {end:#x}", "An address below 4 GB, and at least a byte.")
        self._entries.append((cpu.handle.pad.cpu if cpu else 0, first, end, flags))
        self._changed()

    def clear(self) -> None:
        """Watch nothing, at no cost."""
        self._entries.clear()
        self._changed()

    def _changed(self) -> None:
        """Entries of the TLB made before know nothing of it."""
        for at, entry in enumerate(self._entries):
            self._data.watches[at] = Entry(*entry)
        self._data.count = len(self._entries)
        for stub, place in self._places.items():
            target = self._base + OFFSETS[stub] if self._entries else internals.symbol(_SLOTS[stub])
            ctypes.c_uint64.from_address(place).value = target
        for cpu in self._cpus:
            cpu.flush_tlb()

    def step_over(self, cpu: Cpu, blocks: int) -> Exit:
        """After a stop: run the instruction, with all its accesses."""
        self._data.passing = 1
        try:
            return cpu.run(blocks, 1)
        finally:
            self._data.passing = 0


def last_access() -> tuple[int, int, bool]:
    """Of the stop that ended the last run: linear address, size in bytes, whether a store."""
    data = pages()[2]
    return data.linear & 0xFFFFFFFF, data.size, data.how == WRITE
