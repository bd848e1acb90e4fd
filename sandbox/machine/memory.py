"""Physical memory: one private reservation of host memory, mapped into every CPU as ranges.

The physical map::

    0x00000000 - 0x0009FFFF   RAM
    0x000A0000 - 0x000FFFFF   never RAM: video memory, adapter ROMs, BIOS
    0x00100000 - 0x7FFFFFFF   RAM, as far as it reaches
    0x80000000 - 0xFFFFFFFF   never RAM: devices
    0x100000000 -             what RAM is left, up to 36 address bits

Holes can be cut out of it.  The host buffer is the RAM without the devices' 2 GB, so that for RAM below 2 GB
the offset in the buffer is the physical address, and hot paths read ``memory.words[physical >> 2]``.

**The door.** Every view handed out is read-only, so that host bytes enter guest RAM in two ways only, both
with a reason: ``host_write`` (and ``host_fill``), and the word views of ``mutable_words`` and
``mutable_quads``, which those who store single entries ask for once. A plain view costs what a memoryview
costs and counts nothing: its owner reports with ``count``. With ``audit`` on, the views count by themselves
and every store is checked against what has been declared: a region declared for one reason is closed to all
others.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import partial
from typing import Protocol, TypeAlias

from sandbox.machine.repeated import map_repeated
from sandbox.machine.word_views import AuditedView, ObservedView, StoreObserver, WatchedView, WordView
from sandbox.x86.errors import ConfigurationError, SandboxError
from sandbox.x86.paging import PAGE_SIZE

LOW_END, HIGH_START = 0xA0000, 0x100000
"""Physical addresses between which there is no RAM on a PC."""
DEVICES_START, DEVICES_END = 1 << 31, 1 << 32
PHYSICAL_LIMIT = 1 << 36
MOST_RAM = PHYSICAL_LIMIT - (DEVICES_END - DEVICES_START)
_FILL_CHUNK = 1 << 20
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x40 if sys.platform == "darwin" else 0x4000)


class Reason(Enum):
    """Why host bytes enter guest memory."""

    __hash__ = object.__hash__
    """Members are counted by at each store, and Enum's own is a function in Python."""

    TABLE = "table"
    """Entries of page tables and descriptor tables."""
    STRUCT_PAGE = "struct page"
    IMAGE = "image"
    """What a loader places before the code runs."""
    DMA = "dma"
    """A device."""
    PROCESSOR = "processor"
    """What a CPU stores and the engine does not: interrupt frames, accessed bits on the way to them."""
    DEBUGGER = "debugger"
    """What a person at a debugger sets."""


class OutsideRam(SandboxError):
    """A physical range that is not RAM throughout."""

    exit_status = 3

    def __init__(self, physical: int, size: int, what: str) -> None:
        super().__init__(f"{what}: {size:#x} bytes at physical address {physical:#x} are not all RAM")
        self.physical = physical
        self.size = size


class ForbiddenWrite(SandboxError):
    """Audit: host bytes for one reason, aimed at a frame that is kept for another."""

    exit_status = 3

    def __init__(self, physical: int, reason: Reason, owner: Reason | None) -> None:
        kept = f"kept for {owner.value!r}" if owner else f"not declared for {reason.value!r}"
        super().__init__(f"host write as {reason.value!r} to physical address {physical:#x}, a frame {kept}")
        self.physical = physical
        self.reason = reason
        self.owner = owner


class MemoryInUse(SandboxError):
    """The memory cannot be released: a CPU has it mapped."""

    exit_status = 3


StoreWatch: TypeAlias = "Callable[[int, int, Reason], Callable[[], object] | None]"


class Mapper(Protocol):
    """What RAM can be mapped into: a CPU."""

    def map_ram(self, physical: int, size: int, host_address: int) -> None: ...


_buffers: weakref.WeakKeyDictionary[Mapper, mmap.mmap] = weakref.WeakKeyDictionary()
"""The host memory under each CPU lives at least as long as the CPU."""


class PhysicalMemory:
    """RAM of a machine; ``ram`` is the size of it all in bytes, holes included.

    ``ranges`` lists (physical address, size, offset in the buffer).  ``bytes``, ``words`` (32 bits) and
    ``quads`` are read-only views over the whole buffer, indexed by ``host_index(physical)`` divided by their
    width.  Raises ConfigurationError for a size or a hole that cannot be.
    """

    audit_by_default = False

    def __init__(self, ram: int, holes: tuple[tuple[int, int], ...] = (), audit: bool | None = None) -> None:
        if ram <= 0 or ram % PAGE_SIZE:
            raise ConfigurationError(f"RAM of {ram:#x} bytes: it must be a multiple of {PAGE_SIZE}")
        if ram > MOST_RAM:
            raise ConfigurationError(
                f"RAM of {ram >> 20} MB: at most {MOST_RAM >> 20} MB fit",
                "Physical addresses have 36 bits, and 0x80000000 to 0xFFFFFFFF belong to devices.",
            )
        self.ram = ram
        self.holes = holes
        self.audit = self.audit_by_default if audit is None else audit
        self._above = DEVICES_END - min(ram, DEVICES_START)
        self.ranges = _ranges(ram, holes)
        try:
            buffer = mmap.mmap(-1, ram, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
        except OSError as error:
            raise ConfigurationError(f"the host refuses to reserve {ram >> 20} MB", str(error)) from error
        self._buffer = buffer
        self.host_base = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        """Host address of the buffer's first byte."""
        self._mutable = memoryview(buffer)
        self.bytes = self._mutable.toreadonly()
        self.words = self.bytes.cast("I")
        self.quads = self.bytes.cast("Q")
        self._written = dict.fromkeys(Reason, 0)
        self._owners: dict[int, Reason] = {}
        self._closed: set[Reason] = set()
        self._cpus: weakref.WeakSet[Mapper] = weakref.WeakSet()
        self.store_watch: StoreWatch | None = None
        """Asked with (physical address, bytes, reason) before Python stores: devices' DMA, and what goes through views
        that are handed out from here on.  What it answers is called behind the store."""
        self.watched_pages: set[int] = set()
        """Offsets in the buffer, in pages: of stores of single words elsewhere, ``store_watch`` is not asked."""
        self.table_observer: StoreObserver | None = None
        """Told of stores through views for ``Reason.TABLE`` that are handed out from here on."""

    # -- the map ---------------------------------------------------------------------------------------------

    def host_index(self, physical: int) -> int:
        """Offset in the buffer of a physical address that is RAM; not checked."""
        return physical if physical < DEVICES_START else physical - self._above

    def is_ram(self, physical: int, size: int = 1) -> bool:
        """All ``size`` bytes are RAM, in one range."""
        end = physical + size
        return any(start <= physical and end <= start + length for start, length, _ in self.ranges)

    def frames(self) -> Iterator[tuple[int, int]]:
        """Each range as (first frame number, number of frames), upwards."""
        for start, length, _ in self.ranges:
            yield start // PAGE_SIZE, length // PAGE_SIZE

    def cut(self, physical: int, size: int) -> None:
        """A range is RAM no more: the chipset gives its addresses to somebody else.  Raises OutsideRam."""
        self._checked(physical, size, "cut")
        self.ranges = pieces_without(self.ranges, physical, size)

    def close_isa_hole(self) -> None:
        """Its addresses are RAM too, as on a board that has nothing else.  Before ``map_into``."""
        _, (start, size, _), *above = self.ranges
        self.ranges = [(0, start + size, 0), *above]

    @property
    def end(self) -> int:
        """The physical address behind the last byte of RAM."""
        start, length, _ = self.ranges[-1]
        return start + length

    def _checked(self, physical: int, size: int, what: str) -> int:
        for start, length, offset in self.ranges:
            if start <= physical and physical + size <= start + length:
                return physical - start + offset
        raise OutsideRam(physical, size, what)

    # -- reading ---------------------------------------------------------------------------------------------

    def read(self, physical: int, size: int) -> bytes:
        """Copy of ``size`` bytes.  Raises OutsideRam."""
        at = self._checked(physical, size, "read")
        return bytes(self.bytes[at : at + size])

    def read_word(self, physical: int) -> int:
        """The aligned 32-bit word at a physical address that is RAM."""
        return self.words[self.host_index(physical) >> 2]

    def read_quad(self, physical: int) -> int:
        """The aligned 64-bit word at a physical address that is RAM."""
        return self.quads[self.host_index(physical) >> 3]

    def read_entry(self, physical: int, size: int) -> int:
        """The little-endian number that a page walk sees; outside RAM it is 0, as for the engine's walker."""
        if not self.is_ram(physical, size):
            return 0
        at = self.host_index(physical)
        return int.from_bytes(self.bytes[at : at + size], "little")

    # -- the door --------------------------------------------------------------------------------------------

    def host_write(self, physical: int, data: bytes | bytearray | memoryview, reason: Reason) -> None:
        """Store bytes.  Raises OutsideRam, and under audit ForbiddenWrite."""
        size = len(data)
        at = self._checked(physical, size, reason.value)
        if self.audit:
            self._inspect(physical, size, reason)
        behind = None if self.store_watch is None else self.store_watch(physical, size, reason)
        self._mutable[at : at + size] = data
        self._written[reason] += size
        if behind is not None:
            behind()

    def host_fill(self, physical: int, size: int, value: int, reason: Reason) -> None:
        """Store one byte value ``size`` times.  Raises as ``host_write`` does."""
        at = self._checked(physical, size, reason.value)
        if self.audit:
            self._inspect(physical, size, reason)
        behind = None if self.store_watch is None else self.store_watch(physical, size, reason)
        pattern = bytes((value,)) * min(size, _FILL_CHUNK)
        for done in range(0, size, _FILL_CHUNK):
            length = min(size - done, _FILL_CHUNK)
            self._mutable[at + done : at + done + length] = pattern[:length]
        self._written[reason] += size
        if behind is not None:
            behind()

    def host_repeat(self, physical: int, size: int, data: bytes, reason: Reason) -> None:
        """Store ``data``, a multiple of pages, again and again, at a cost that hardly grows with ``size``.

        The host maps the same few pages, copied when they are written.  Raises as ``host_write`` does.
        """
        at = self._checked(physical, size, reason.value)
        if self.audit:
            self._inspect(physical, size, reason)
        behind = None if self.store_watch is None else self.store_watch(physical, size, reason)
        if not map_repeated(self.host_base + at, size, data):
            for done in range(at, at + size, len(data)):
                self._mutable[done : min(done + len(data), at + size)] = data[: at + size - done]
        self._written[reason] += size
        if behind is not None:
            behind()

    def mutable_words(self, reason: Reason, pages: Iterable[int] | None = None) -> WordView:
        """A writable view of 32-bit words, for who stores single ones for a reason; keep it to yourself.

        ``pages`` are the buffer's pages that are stored into, None for any: only if one of them is watched, somebody
        is asked before stores.
        """
        return self._view(self._mutable.cast("I"), 4, reason, pages)

    def mutable_quads(self, reason: Reason) -> WordView:
        """The same of 64-bit words."""
        return self._view(self._mutable.cast("Q"), 8, reason)

    def _view(self, view: memoryview[int], width: int, reason: Reason, pages: Iterable[int] | None = None) -> WordView:
        plain = AuditedView(view, width, partial(self._audited_store, reason)) if self.audit else view
        observer = self.table_observer if reason is Reason.TABLE else None
        made: WordView = plain if observer is None else ObservedView(plain, width, observer)
        if self.store_watch is not None and (pages is None or not self.watched_pages.isdisjoint(pages)):
            made = WatchedView(made, width, partial(self._store_watched, reason), self.watched_pages)
        return made

    def _store_watched(self, reason: Reason, offset: int, size: int) -> Callable[[], object] | None:
        return None if self.store_watch is None else self.store_watch(self.physical_of(offset), size, reason)

    def physical_of(self, offset: int) -> int:
        """The physical address of a byte of the buffer."""
        return offset if offset < DEVICES_START else offset + self._above

    def count(self, reason: Reason, size: int) -> None:
        """Report ``size`` bytes stored through a mutable view; under audit the view has counted them."""
        if not self.audit:
            self._written[reason] += size

    def host_bytes(self) -> dict[str, int]:
        """Bytes that came from the host so far, by reason; reasons with none are left out."""
        return {reason.value: count for reason, count in self._written.items() if count}

    # -- audit -----------------------------------------------------------------------------------------------

    def declare(self, reason: Reason, physical: int, size: int) -> None:
        """From now on only ``reason`` may write the frames of a range; without audit, nothing is noted."""
        if not self.audit:
            return
        first, end = physical // PAGE_SIZE, -(-(physical + size) // PAGE_SIZE)
        self._owners.update(dict.fromkeys(range(first, end), reason))

    def withdraw(self, physical: int, size: int) -> None:
        """Undo ``declare`` for the frames of a range."""
        if not self._owners:
            return
        for frame in range(physical // PAGE_SIZE, -(-(physical + size) // PAGE_SIZE)):
            self._owners.pop(frame, None)

    def confine(self, reason: Reason) -> None:
        """From now on ``reason`` may write declared frames only."""
        self._closed.add(reason)

    def _inspect(self, physical: int, size: int, reason: Reason) -> None:
        for frame in range(physical // PAGE_SIZE, -(-(physical + size) // PAGE_SIZE)):
            owner = self._owners.get(frame)
            if owner is not reason and (owner is not None or reason in self._closed):
                raise ForbiddenWrite(max(physical, frame * PAGE_SIZE), reason, owner)

    def _audited_store(self, reason: Reason, at: int, width: int) -> None:
        """Check and count a store of ``width`` bytes at an offset of the buffer."""
        physical = at if at < DEVICES_START else at + self._above
        self._checked(physical, width, reason.value)
        self._inspect(physical, width, reason)
        self._written[reason] += width

    # -- life ------------------------------------------------------------------------------------------------

    def map_into(self, cpu: Mapper) -> None:
        """Map every range into a CPU, which keeps the host memory alive from then on."""
        _buffers[cpu] = self._buffer
        self._cpus.add(cpu)
        for physical, size, offset in self.ranges:
            cpu.map_ram(physical, size, self.host_base + offset)

    def unmapped_from(self, cpu: Mapper) -> None:
        """The CPU has been closed: it needs the memory no more."""
        _buffers.pop(cpu, None)
        self._cpus.discard(cpu)

    def close(self) -> None:
        """Give the host memory back, or leave that to the last view of it.

        Raises MemoryInUse while a CPU is mapped onto it.
        """
        if len(self._cpus):
            raise MemoryInUse(f"{len(self._cpus)} CPUs have this memory mapped")
        for view in (self.words, self.quads, self.bytes, self._mutable):
            view.release()
        try:
            self._buffer.close()
        except BufferError:
            del self._buffer


def ram_ranges(ram: int) -> list[tuple[int, int]]:
    """(physical, bytes) of so much RAM on a machine without holes of its own."""
    return [(start, size) for start, size, _ in _ranges(ram, ())]


def pieces_without(ranges: list[tuple[int, int, int]], physical: int, size: int) -> list[tuple[int, int, int]]:
    """(physical, size, offset) of ranges less one that lies inside a single one of them."""
    kept = []
    for start, length, offset in ranges:
        if start <= physical < start + length:
            end, behind = start + length, physical + size
            kept += [(start, physical - start, offset), (behind, end - behind, offset + behind - start)]
        else:
            kept.append((start, length, offset))
    return [each for each in kept if each[1]]


def _ranges(ram: int, holes: tuple[tuple[int, int], ...]) -> list[tuple[int, int, int]]:
    """(physical, size, offset) of all RAM.  Raises ConfigurationError for an unaligned or empty hole."""
    pieces = [(0, min(ram, LOW_END)), (HIGH_START, min(ram, DEVICES_START))]
    if ram > DEVICES_START:
        pieces.append((DEVICES_END, DEVICES_END + ram - DEVICES_START))
    for start, size in holes:
        if start < 0 or size <= 0 or start % PAGE_SIZE or size % PAGE_SIZE:
            raise ConfigurationError(f"hole of {size:#x} bytes at {start:#x}: not whole pages of {PAGE_SIZE}")
        cut = []
        for first, end in pieces:
            cut += [(first, min(end, start)), (max(first, start + size), end)]
        pieces = cut
    above = DEVICES_END - min(ram, DEVICES_START)
    found = [
        (first, end - first, first if first < DEVICES_START else first - above) for first, end in pieces if first < end
    ]
    if not found:
        raise ConfigurationError(f"RAM of {ram:#x} bytes: the holes leave nothing of it")
    return sorted(found)
