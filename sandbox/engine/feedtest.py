"""What must hold of the engine before its TLB is watched: known misses, fills, invalidations, provoked once a process.

The order and the arguments of the calls that ``sandbox.engine.tlbfeed`` notes are nobody's promise.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Callable

from sandbox.engine import tlbfeed
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Halt
from sandbox.engine.library import UnknownEngine
from sandbox.engine.tlbfeed import Batch, Feed
from sandbox.x86.masks import CR0_PAGED, CR0_WP, CR4_PAE, CR4_PGE, CR4_SSE
from sandbox.x86.paging import RW, US, A, D, P

_PHYSICAL = 0x10000
_ROOT, _DIRECTORY, _TABLE, _CODE, _DATA = (_PHYSICAL + page * 0x1000 for page in range(5))
_LINEAR = 0x400000
_LOAD_STORE_INVALIDATE = (
    "a100104000"  # mov eax, [0x401000]
    "a300104000"  # mov [0x401000], eax
    "0f013d00104000"  # invlpg [0x401000]
    "0f20d8 0f22d8"  # mov eax, cr3; mov cr3, eax
    "0f20e0 3580000000 0f22e0"  # mov eax, cr4; xor eax, 0x80; mov cr4, eax
    "0f20c0 3500000100 0f22c0"  # mov eax, cr0; xor eax, 0x10000; mov cr0, eax
    "f4"
)
_BITS = P | RW | US

_verified = False


def watch(cpus: list[Cpu], reader: Callable[[Batch], object]) -> Feed:
    """A feed of some CPUs, off.  Raises NoFeed, and UnknownEngine when the engine does not behave as 2.1.4."""
    global _verified
    feed = Feed(reader)
    if not _verified:
        for pae in (False, True):
            _verify(pae)
        _verified = True
    for cpu in cpus:
        feed.add(cpu.handle)
    return feed


def _verify(pae: bool) -> None:
    """Run a few accesses and invalidations and compare what is noted."""
    seen: list[tuple[int, ...]] = []
    feed = Feed(lambda batch: seen.extend(_plain(batch)))
    memory = mmap.mmap(-1, 5 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    cpu = Cpu()
    try:
        cpu.map_ram(_PHYSICAL, len(memory), ctypes.addressof(ctypes.c_char.from_buffer(memory)))
        _prepare(cpu, memory, pae)
        feed.add(cpu.handle)
        feed.switch(True)
        cpu.flush_tlb()  # Python's: not to be seen
        exit_ = cpu.run(16)
        feed.switch(False)
    finally:
        cpu.close()
    if not isinstance(exit_, Halt) or seen != _expected(pae):
        raise UnknownEngine(
            "the engine's TLB does not work as that of 2.1.4 does",
            f"{'PAE' if pae else 'two-level'} paging: {seen}\nwanted {_expected(pae)}",
        )


def _plain(batch: Batch) -> list[tuple[int, ...]]:
    """Of each record the kind and what must be as expected."""
    found: list[tuple[int, ...]] = []
    for at, head in enumerate(batch.heads):
        one, two = batch.word(at, 1), batch.word(at, 2)
        kind = head & 15
        if kind == tlbfeed.MISS:
            found.append((kind, one, batch.more(at), two))
        elif kind == tlbfeed.FILL:
            found.append((kind, one, two, batch.word(at, 4) & 0xFFFFFFFF, batch.more(at)))
        elif kind == tlbfeed.PAGE:
            found.append((kind, one))
        else:
            found.append((kind, one, two))
    return found


def _prepare(cpu: Cpu, memory: mmap.mmap, pae: bool) -> None:
    code = bytes.fromhex(_LOAD_STORE_INVALIDATE)
    memory[_CODE - _PHYSICAL : _CODE - _PHYSICAL + len(code)] = code
    for at, entry in _entries(pae).items():
        struct.pack_into("<Q" if pae else "<I", memory, at - _PHYSICAL, entry)
    state = cpu.context
    state.cr0, state.cr3, state.cr4 = CR0_PAGED, _ROOT, CR4_SSE | (CR4_PAE if pae else 0)
    state.eip = _LINEAR


def _entries(pae: bool) -> dict[int, int]:
    """Physical address of an entry: the entry.  The data page has neither been read nor written."""
    if not pae:
        return {_ROOT + 4: _TABLE | _BITS | A, _TABLE: _CODE | _BITS | A | D, _TABLE + 4: _DATA | _BITS}
    return {
        _ROOT: _DIRECTORY | P,
        _DIRECTORY + 16: _TABLE | _BITS | A,
        _TABLE: _CODE | _BITS | A | D,
        _TABLE + 8: _DATA | _BITS,
    }


def _expected(pae: bool) -> list[tuple[int, ...]]:
    """What the run must leave: the fetch's walk, the load's, the store's (it sets D), and three invalidations."""
    width = 8 if pae else 4
    entries = _entries(pae)
    above = list(entries.items())[:-2]
    data = _TABLE + width
    cr4 = CR4_SSE | (CR4_PAE if pae else 0)

    def walk(linear: int, access: int, leaf: int, value: int, mark: int, rights: int) -> list[tuple[int, ...]]:
        kernel = access | 2 << 8
        return [
            (tlbfeed.MISS, linear, kernel, _ROOT),
            *((tlbfeed.ENTRY, at, entry) for at, entry in above),
            (tlbfeed.ENTRY, leaf, value),
            *([(tlbfeed.MARK, leaf, mark)] if mark != value else []),
            (tlbfeed.FILL, linear & ~0xFFF, value & ~0xFFF, rights, 0x1000),
        ]

    def fetched(offset: int) -> list[tuple[int, ...]]:
        return walk(_LINEAR + offset, tlbfeed.FETCH, _TABLE, entries[_TABLE], entries[_TABLE], 7)

    clean, read, written = (_DATA | _BITS | bits for bits in (0, A, A | D))
    pdptes = [(tlbfeed.PDPTE, _ROOT + 8 * each, entries.get(_ROOT + 8 * each, 0)) for each in range(4)] if pae else []
    return [
        *fetched(0),
        *walk(_LINEAR + 0x1000, tlbfeed.LOAD, data, clean, read, 5),
        *walk(_LINEAR + 0x1000, tlbfeed.STORE, data, read, written, 7),
        (tlbfeed.PAGE, _LINEAR + 0x1000),
        (tlbfeed.CR3, _ROOT, _ROOT),
        *pdptes,
        *fetched(0x17),
        (tlbfeed.CR4, cr4 ^ CR4_PGE, cr4),
        *pdptes,
        *fetched(0x22),
        (tlbfeed.CR0, CR0_PAGED ^ CR0_WP, CR0_PAGED),
        *pdptes,
        *fetched(0x2D),
    ]
