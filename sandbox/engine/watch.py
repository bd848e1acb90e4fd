"""Watchpoints on linear and physical ranges, on what page walks store, and on CR3.

QEMU's own watchpoints do it: its softmmu still asks ``cpu_watchpoint_address_matches`` at each TLB fill and
``cpu_check_watchpoint`` before an access through an entry that matched, and both are empty in 2.1.4.  With the first
watch of a process these two lead to ``native/watch.S``.  Pages without one run at full speed.

A run stops *before* an access, at its instruction.  The next run lets that instruction pass with all its accesses;
then ``hits`` has each, with the old and the new value.  A linear watch is one of addresses: it follows their mapping.
A physical one sees every alias, and the accessed and dirty bits that walks set.  Not seen: fetches, what Python stores
(``machine.memory`` tells of that), and the processor's reads of table entries.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from sandbox.engine import internals, stubs, tlbmarks, watchcode
from sandbox.engine.cpu import Cpu
from sandbox.engine.watchcode import MOST, MOST_BREAKS, NOWHERE, Entry, Noted
from sandbox.records import dataclass
from sandbox.x86.errors import SandboxError

READ, WRITE = 1, 2
_PHYSICAL = 4
ACCESS, WALK, CR3 = "access", "walk", "cr3"
_KINDS = (ACCESS, WALK, CR3)


class NoWatch(SandboxError):
    """Memory cannot be watched here, or one watch too many."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Hit:
    """An access that a watch saw.

    ``kind`` is an instruction's ACCESS, a WALK that sets accessed or dirty bits (``linear`` is what it translates), or
    a load of CR3.  ``cpu`` is the CPU's index; ``physical`` is None where the engine's TLB did not say.  Values are
    little-endian, None where they are a device's or not known; ``new`` is what is there when the instruction is over.
    """

    kind: str
    cpu: int
    eip: int
    linear: int
    physical: int | None
    size: int
    write: bool
    old: int | None
    new: int | None
    last: int | None = None
    """Physical address of the last byte: of an access to two pages, it lies on the second one."""


@dataclass(frozen=True, slots=True)
class _Range:
    cpu: Cpu
    first: int
    end: int
    flags: int


_active: list[Watches] = []
"""All that watch something: the stubs have one table a process."""


class Watches:
    """The watches of the CPUs of one machine.  Raises NoWatch on hosts that are not x86-64 Linux."""

    def __init__(self, cpus: Sequence[Cpu]) -> None:
        if not stubs.native_host():
            raise NoWatch("memory cannot be watched on this host", stubs.why_not_native() or "")
        self.cpus = list(cpus)
        self._ranges: dict[int, list[_Range]] = {}
        self._last = self._held = 0
        self._cr3 = False
        self.unread: list[Hit] = []
        """What ``hits`` will give."""
        self.noticed: Callable[[], object] = lambda: None
        """Told when there is more of it."""
        self._edge: dict[tuple[int, int], int | None] = {}
        self._eip = 0
        self._data = watchcode.install()
        for cpu in self.cpus:
            watchcode.watch_misses(cpu.handle.pad.cpu)
            cpu.handle.before_close.append(partial(self._forget, cpu))
            cpu.passing = partial(self._passing, cpu)

    # -- what is watched

    def add(self, first: int, end: int, flags: int, cpu: Cpu | None = None, physical: bool = False) -> int:
        """Stop at accesses of [first, end), of all CPUs unless one is given; a number for ``remove``.

        ``flags`` are READ | WRITE.  Nothing is dropped from any TLB.  Raises NoWatch.
        """
        if not 0 <= first < end <= (1 << 52 if physical else 1 << 32) or not flags & (READ | WRITE):
            most = "A physical address" if physical else "An address below 4 GB"
            raise NoWatch(f"no range to watch: {first:#x} to {end:#x}", f"{most}, and at least a byte.")
        how = flags & (READ | WRITE) | (_PHYSICAL if physical else 0)
        made = [_Range(each, first, end, how) for each in ([cpu] if cpu else self.cpus)]
        others = [each for each in _active if each is not self]
        if sum(len(ranges) for each in [*others, self] for ranges in each._ranges.values()) + len(made) > MOST:
            raise NoWatch(f"at most {MOST} ranges can be watched, counted on each CPU")
        self._last += 1
        self._ranges[self._last] = made
        self._changed()
        return self._last

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is added and removed inside takes effect at the end, at once: each change looks through the TLBs."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self._changed()

    def remove(self, number: int) -> None:
        """Watch a range no more."""
        if self._ranges.pop(number, None) is not None:
            self._changed()

    def clear(self) -> None:
        """Watch nothing, at no cost."""
        self._ranges.clear()
        self.watch_cr3(False)

    def watch_cr3(self, on: bool) -> None:
        """Stop behind each load of CR3 by an instruction."""
        self._cr3 = on
        self._changed()

    def _forget(self, cpu: Cpu) -> None:
        """The CPU's engine is about to be closed."""
        self.cpus.remove(cpu)
        self._cr3 &= bool(self.cpus)
        for number, ranges in list(self._ranges.items()):
            self._ranges[number] = [each for each in ranges if each.cpu is not cpu]
            if not self.cpus:
                del self._ranges[number]
        self._changed()

    def _changed(self) -> None:
        """Fill the stubs' table, and mark what the TLBs hold."""
        if self._held:
            return
        if self in _active:
            _active.remove(self)
        if self._cr3 or self._ranges:
            _active.append(self)
        found = [each for one in _active for ranges in one._ranges.values() for each in ranges]
        data = self._data
        for at, each in enumerate(found):
            data.watches[at] = Entry(each.cpu.handle.pad.cpu, each.first, each.end, each.flags)
        data.count, data.physical = len(found), sum(each.flags & _PHYSICAL > 0 for each in found)
        for cpu in self.cpus:
            cpu.handle.pad.stops_at_cr3 = any(each._cr3 and cpu in each.cpus for each in _active)
            tlbmarks.mark(cpu.handle, partial(_wanted, [each for each in found if each.cpu is cpu]))

    # -- what was hit

    def stopped_by(self, cpu: Cpu) -> Hit:
        """Of the Watched exit that ended the CPU's last run: what was about to be done, or the load of CR3."""
        noted = self._data.noted[0]
        self._edge = _over_an_edge(cpu, noted)
        return self._hit(cpu, noted, cpu.context.code_address(cpu.context.eip), False)

    def hits(self) -> list[Hit]:
        """What has been done since the last time, in its order."""
        found, self.unread = self.unread, []
        return found

    def _passing(self, cpu: Cpu, on: bool, done: bool) -> None:
        """The instruction that was stopped at is about to run, or has."""
        data = self._data
        if on:
            self._eip = cpu.context.code_address(cpu.context.eip)
            self._edge = _over_an_edge(cpu, data.noted[0])
            return
        if done:
            self.unread += [self._hit(cpu, data.noted[at], self._eip, True) for at in range(data.hits)]
            self.noticed()

    def _hit(self, cpu: Cpu, noted: Noted, eip: int, done: bool) -> Hit:
        kind, size, write = _KINDS[noted.kind], int(noted.size), bool(noted.how & WRITE)
        mask = (1 << 8 * size) - 1
        physical, last = (None if each == NOWHERE else int(each) for each in (noted.physical, noted.last))
        if kind != ACCESS:
            return Hit(kind, cpu.index, eip, noted.linear & 0xFFFFFFFF, physical, size, True, noted.old, noted.new)
        old = noted.old & mask if noted.known else self._edge.get((noted.linear, size))
        new = (_value(cpu, noted) if write else old) if done else None
        return Hit(kind, cpu.index, eip, noted.linear & 0xFFFFFFFF, physical, size, write, old, new, last)


def set_fetches(cpus: Sequence[Cpu], physical: Collection[int]) -> None:
    """Stop the CPUs before instructions at these physical addresses, by whatever mapping: ``BreakpointHit``.

    It is asked before each instruction whose offset in its page is one of these: all run slower (docs/performance.md).
    Raises NoWatch on hosts that are not x86-64 Linux, and for more than MOST_BREAKS addresses.
    """
    if physical and not stubs.native_host():
        raise NoWatch("no breakpoints at physical addresses on this host", stubs.why_not_native() or "")
    if len(physical) > MOST_BREAKS:
        raise NoWatch(f"at most {MOST_BREAKS} breakpoints can be at physical addresses")
    if stubs.native_host():
        data = watchcode.pages()[2]
        data.break_count = len(physical)
        data.breaks[: len(physical)] = sorted(physical)
        for cpu in cpus:
            cpu.watch_fetches(bool(physical))


def fetched(cpu: Cpu) -> int | None:
    """Physical address of the instruction before which a CPU stopped for ``set_fetches``; None: look at the tables."""
    if not stubs.native_host() or cpu.handle.pad.passed != cpu.context.linear_eip & 0xFFFFFFFF:
        return None
    found = int(watchcode.pages()[2].fetched)
    return None if found == NOWHERE else found


def _wanted(ranges: Sequence[_Range], linear: int, physical: int) -> int:
    """How a page is watched: 1 for loads | 2 for stores."""
    how = 0
    for each in ranges:
        page = physical if each.flags & _PHYSICAL else linear
        if page < each.end and each.first < page + 4096:
            how |= each.flags
    return how & (READ | WRITE)


def _over_an_edge(cpu: Cpu, noted: Noted) -> dict[tuple[int, int], int | None]:
    """The value at (linear, size) of an access to two pages, before it, which the stubs do not read."""
    linear, size = int(noted.linear), int(noted.size)
    if noted.kind or size > 8 or (linear & 4095) + size <= 4096:
        return {}
    value = _value(cpu, noted)
    if value is None:  # a load's second page need not be in the TLB yet: as the tables have it
        read = (ctypes.c_uint8 * size)()
        if not internals.memory_reader()(cpu.handle.pad.cpu, linear & 0xFFFFFFFF, read, size, False):
            value = int.from_bytes(read, "little")
    return {(linear, size): value}


def _value(cpu: Cpu, noted: Noted) -> int | None:
    """What lies there now, None where that is not RAM or not known to be."""
    first, last, size = int(noted.physical), int(noted.last), int(noted.size)
    if NOWHERE in (first, last):
        return None
    here = min(size, 4096 - first % 4096)
    pieces = [_bytes(cpu, first, here), _bytes(cpu, last - (size - here) + 1, size - here) if here < size else b""]
    return None if None in pieces else int.from_bytes(b"".join(each or b"" for each in pieces), "little")


def _bytes(cpu: Cpu, physical: int, size: int) -> bytes | None:
    for start, length, host in cpu.handle.ram:
        if start <= physical and physical + size <= start + length:
            return ctypes.string_at(host + physical - start, size)
    return None
