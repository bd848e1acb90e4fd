"""What the engine's MMU does, as records: every TLB miss, walk, fill, and every invalidation that was executed.

QEMU's softmmu calls what fills its TLB, what reads and marks table entries and what invalidates through the library's
procedure linkage table, and its miss handler through one word a CPU.  With the feed on these words lead to
``native/tlbfeed.S``, which notes each call in a ring; off, they are as they were and nothing costs anything.

Only what is done while a CPU runs is noted: what Python does to the engine's TLB (``flush_tlb``, mapping RAM) is no
instruction of the guest's.  A MOV to a control register that faults is no record, nor is one before it took effect.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from sandbox.engine import context as ctx
from sandbox.engine import internals, stubs, tlbcode, watchcode
from sandbox.engine.handle import Handle
from sandbox.engine.library import UnknownEngine
from sandbox.engine.tlbpeek import RECORD_WORDS, Unread
from sandbox.engine.watchcode import ENV_IN_CPU, MISS_HANDLER
from sandbox.records import dataclass
from sandbox.x86.errors import SandboxError

MISS, ENTRY, MARK, FILL, CR3, CR4, CR0, PAGE, PDPTE, STALE = range(1, 11)
"""Kinds of records, the low four bits of a record's first byte; the CPU's number is above them.

========= ============= ================== =================== ============= ========= ====================
kind      more          word 1             2                   3             4         5
========= ============= ================== =================== ============= ========= ====================
MISS      access | idx  linear address     CR3                 CR0           CR4       return address
ENTRY                   physical address   the value read      chain
MARK                    physical address   the value stored
FILL      page size     linear address     physical address    attributes    rights    idx
CR3, ...                new value          old value
PAGE                    linear address                         chain
PDPTE                   physical address   the value loaded
STALE                   linear address     physical address                        rights
========= ============= ================== =================== ============= ========= ====================

``access`` is 0 for a load, 1 a store, 2 a fetch; the engine's ``idx``, 8 bits above it, is 1 for an access of ring 3.
STALE stands behind a miss that ``answer`` answered, in the place of a walk.
The chains are for ``sandbox.engine.tlbpeek``.
``rights`` are 1 read, 2 write, 4 execute.  Words of a fill that are 32-bit arguments have anything above them.
"""
KINDS = (
    "", "misses", "entries read", "accessed or dirty bits set", "fills", "CR3 loads", "CR4 loads", "CR0 loads",
    "INVLPG", "PDPTEs loaded", "stale translations used",
)  # fmt: skip
LOAD, STORE, FETCH = range(3)
CAPACITY = 1 << 13
SLACK = 64
"""Records that fit behind the place where Python is asked to read: more than a walk or a load of CR3 leaves."""
MOST_CPUS = 8
RIGHT_READ, RIGHT_WRITE, RIGHT_EXECUTE = 1, 2, 4

_SLOTS = {
    "fill": "tlb_set_page_with_attrs",
    "load_long": "x86_ldl_phys",
    "load_quad": "x86_ldq_phys",
    "store_long": "x86_stl_phys_notdirty",
    "load_cr3": "cpu_x86_update_cr3",
    "load_cr4": "cpu_x86_update_cr4",
    "load_cr0": "cpu_x86_update_cr0",
    "flush_page": "tlb_flush_page",
}
"""Stub, and the function whose callers it stands before."""
_Drain = ctypes.CFUNCTYPE(None)
_Decide = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_uint64,
)  # fmt: skip


class NoFeed(SandboxError):
    """The TLB cannot be watched here: the host is not x86-64 Linux, or another machine of this process is watched."""

    exit_status = 2


class Batch(NamedTuple):
    """Records in their order.  ``heads`` has each one's kind | CPU << 4; ``words`` eight 64-bit words for each.

    Good until the reader returns.
    """

    heads: bytes
    words: memoryview

    def word(self, record: int, number: int) -> int:
        """A word of a record."""
        return int(self.words[record * RECORD_WORDS + number])

    def more(self, record: int) -> int:
        """What the first word has above kind and CPU."""
        return int(self.words[record * RECORD_WORDS]) >> 32


@dataclass(frozen=True, slots=True)
class Refill:
    """A translation that the answer to a miss puts into the engine's TLB.

    ``physical`` is the 4 KB page's; ``size``, in bytes, that of the page which it is a piece of.
    """

    physical: int
    rights: int
    attributes: int
    size: int = 4096


Ask = Callable[[int, int, int, bool, int], "Refill | None"]
"""``ask(CPU number, linear, access, ring 3, return address)``: an old translation to use, or None to walk."""

_on: Feed | None = None


class Feed:
    """The feed of some CPUs, numbered in the order of ``add``; at most one in a process is on.

    ``reader`` gets the records when the ring is full or ``drain`` is called; it must not run guest code.
    Raises NoFeed on other hosts, UnknownEngine when the engine is not as 2.1.4.
    """

    def __init__(self, reader: Callable[[Batch], object]) -> None:
        if not stubs.native_host():
            raise NoFeed("the TLB cannot be watched on this host", stubs.why_not_native() or "")
        self.reader = reader
        self.is_on = False
        self._handles: list[Handle | None] = []
        self._failure: BaseException | None = None
        self._ring = mmap.mmap(-1, CAPACITY * RECORD_WORDS * 8, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._bytes = memoryview(self._ring)
        self._words = self._bytes.cast("Q")
        self._bitmap = (ctypes.c_uint8 * (1 << 17))()
        _, self._base, self._data = tlbcode.pages()
        self.unread = Unread(self._data, self._words)
        self._read_so_far = 0
        self._raw_flush_page = ctypes.CFUNCTYPE(None, ctypes.c_uint64, ctypes.c_uint64)(
            internals.symbol("tlb_flush_page_x86_64")
        )
        self._drained, self._decided = _Drain(self._native_drain), _Decide(self._native_decide)
        self._ask: Ask | None = None
        self._restore = _state_restorer()
        self._targets = {stub: internals.slot(f"{name}_x86_64") for stub, name in _SLOTS.items()}

    # -- which CPUs

    def add(self, handle: Handle) -> int:
        """Watch a CPU; its number.  Raises UnknownEngine, and NoFeed for one too many."""
        if len(self._handles) == MOST_CPUS:
            raise NoFeed(f"the TLBs of at most {MOST_CPUS} CPUs can be watched")
        cpu = handle.pad.cpu
        known = (internals.symbol("x86_cpu_tlb_fill_x86_64"), watchcode.miss_handler())
        if handle.pad.env != cpu + ENV_IN_CPU or internals.read_quad(cpu + MISS_HANDLER) not in known:
            raise UnknownEngine("the engine's TLB miss handler is not where 2.1.4 keeps it")
        number = len(self._handles)
        self._handles.append(handle)
        handle.pad.number = number
        handle.before_close.append(partial(self._forget, number))
        self._point(handle)
        return number

    def _forget(self, number: int) -> None:
        """The CPU's engine is about to be closed."""
        handle = self._handles[number]
        if handle is not None:
            ctypes.c_uint64.from_address(handle.pad.cpu + MISS_HANDLER).value = watchcode.miss_handler()
            handle.pad.number = stubs.NOBODYS
            self._handles[number] = None
        if not any(self._handles):
            self.switch(False)

    def _point(self, handle: Handle) -> None:
        target = self._base + tlbcode.OFFSETS["miss"] if self.is_on else watchcode.miss_handler()
        ctypes.c_uint64.from_address(handle.pad.cpu + MISS_HANDLER).value = target

    # -- on and off

    def switch(self, on: bool) -> None:
        """At any moment between two runs.  Raises NoFeed when another feed is on."""
        global _on
        if on == self.is_on:
            return
        if on and _on is not None:
            raise NoFeed("another machine's TLBs are being watched", "One at a time in a process.")
        if on:
            self._connect()
        else:
            self.drain()
        self.is_on, _on = on, self if on else None
        data = self._data
        for stub, place in self._targets.items():
            word = ctypes.c_uint64.from_address(place)
            if on:
                setattr(data, f"old_{stub}", word.value)
                word.value = self._base + tlbcode.OFFSETS[stub]
            else:
                word.value = getattr(data, f"old_{stub}")
        for handle in filter(None, self._handles):
            self._point(handle)

    def _connect(self) -> None:
        """Fill the stubs' page of data in."""
        data = self._data
        data.head, data.limit = 0, CAPACITY - SLACK
        data.chains, data.number = self.unread.table, self._read_so_far
        data.ring = ctypes.addressof(ctypes.c_char.from_buffer(self._ring))
        data.drain = ctypes.cast(self._drained, ctypes.c_void_p).value or 0
        data.decide = ctypes.cast(self._decided, ctypes.c_void_p).value or 0
        data.cell = stubs.link_address("running")
        data.bitmap = ctypes.addressof(self._bitmap) if self._ask is not None else 0
        data.old_miss = watchcode.miss_handler()

    # -- reading

    def drain(self) -> None:
        """Hand what has been noted to the reader.  Raises what the reader raised since the last time."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self.is_on and self._data.head:
            self._read()

    def _read(self, keep: int = 0) -> None:
        """All records but the last ``keep``, which belong to what is going on."""
        count = int(self._data.head) - keep
        self._data.head = 0
        self._read_so_far = self._data.number = self._read_so_far + count
        self.reader(Batch(self._bytes[: count * RECORD_WORDS * 8 : RECORD_WORDS * 8].tobytes(), self._words))
        if keep:
            first, end = count * RECORD_WORDS, (count + keep) * RECORD_WORDS
            self._words[: keep * RECORD_WORDS] = self._words[first:end]
            self._data.head = keep

    def _native_drain(self) -> None:
        """The ring is full, inside a run: an error must wait for the next ``drain``."""
        try:
            self._read()
        except BaseException as error:
            self._failure = error

    # -- the probe

    def answer(self, ask: Ask) -> None:
        """Let the misses of ``suspect`` pages be answered."""
        self._ask = ask
        self._data.bitmap = ctypes.addressof(self._bitmap)

    def suspect(self, number: int, linear: int) -> None:
        """Drop a page from the engine's TLB of a CPU, and ask about its misses from now on, on any CPU."""
        page = linear >> 12
        self._bitmap[page >> 3] |= 1 << (page & 7)
        self.flush_page(number, linear)

    def flush_page(self, number: int, linear: int) -> None:
        """Drop a page from the engine's TLB of a CPU: no record, for it is none of the guest's doing."""
        handle = self._handles[number]
        if handle is not None:
            self._raw_flush_page(handle.pad.cpu, linear & ~0xFFF)

    def clear(self, linear: int) -> None:
        """Ask about a page no more."""
        page = linear >> 12
        self._bitmap[page >> 3] &= ~(1 << (page & 7))

    def clear_all(self) -> None:
        """Ask about no page any more."""
        size = len(self._bitmap)
        (ctypes.c_char * size).from_buffer(self._bitmap).raw = bytes(size)

    def _native_decide(self, cpu: int, linear: int, size: int, access: int, index: int, probe: int, back: int) -> int:
        try:
            self._read(keep=1)
            return self._decide(cpu, linear & 0xFFFFFFFF, access, index, back)
        except BaseException as error:
            self._failure = error
            return 0

    def _decide(self, cpu: int, linear: int, access: int, index: int, back: int) -> int:
        number = next((at for at, each in enumerate(self._handles) if each and each.pad.cpu == cpu), -1)
        if number < 0 or self._ask is None:
            return 0
        refill = self._ask(number, linear, access, index == 1, back)
        if refill is None:
            return 0
        data = self._data
        data.stale_physical, data.stale_attributes = refill.physical, refill.attributes
        data.stale_protection, data.stale_size = refill.rights, refill.size
        return 1

    def instruction(self, number: int, back: int) -> int:
        """EIP of the instruction whose access missed, from the miss's return address; inside ``ask`` only."""
        handle = self._handles[number]
        assert handle is not None
        env = handle.pad.env
        kept = ctypes.string_at(env, _LAZY_STATE)
        self._restore(handle.pad.cpu, back, False)
        eip = ctypes.c_uint32.from_address(env + 8 * ctx.EIP).value
        (ctypes.c_char * _LAZY_STATE).from_address(env).raw = kept
        return eip

    def base_and_ring(self, number: int) -> tuple[int, int]:
        """The base of CS and the CPL of a CPU that runs."""
        handle = self._handles[number]
        assert handle is not None
        env = handle.pad.env
        flags = ctypes.c_uint32.from_address(env + 4 * ctx.HFLAGS32).value
        return ctypes.c_uint32.from_address(env + 8 * ctx.CS_BASE).value, flags & ctx.HF_CPL_MASK


_LAZY_STATE = 8 * ctx.SEGMENT_SLOTS["es"]
"""Bytes at the start of CPUX86State that bringing EIP up to date may change: general registers, EIP, flags."""


def _state_restorer() -> Callable[[int, int, bool], object]:
    """``cpu_restore_state(cpu, return address, will exit)``: brings EIP up to the instruction that a helper serves."""
    return ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_bool)(
        internals.symbol("cpu_restore_state_x86_64")
    )
