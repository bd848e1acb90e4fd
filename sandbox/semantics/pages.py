"""Vectors whose pages the kernel brings: each by the same program under this host's kernel and under the sandbox's.

Operands lie across the border of two pages at each of their bytes, and so does the code.  A page is demand-zero, a
file's, shared with the other process of a fork and to be copied, or taken away by mprotect and given back by the
program's own SIGSEGV handler; registers, flags and memory of both processes are compared at the end, and at each fault
that a handler sees.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

from sandbox.records import replace
from sandbox.semantics import restarts
from sandbox.semantics.forms import Form
from sandbox.semantics.vector import (
    ALONE,
    CODE,
    CODE_PAGES,
    DATA,
    FILED,
    FRESH,
    IN_CHILD,
    IN_PARENT,
    LOW,
    NOTHING,
    READING,
    STACK,
    Vector,
)
from sandbox.x86.paging import PAGE_SIZE

SUFFIX = "-pages"
"""Behind a family's name."""
_DATA, _STACK = (DATA, DATA + PAGE_SIZE), (STACK, STACK + PAGE_SIZE)
_FRESH, _FILED = tuple((page, FRESH) for page in _DATA), tuple((page, FILED) for page in (*_DATA, *_STACK))
WAYS: tuple[tuple[tuple[tuple[int, int], ...], bool, int], ...] = (
    (_FRESH, False, ALONE),
    (_FILED, False, ALONE),
    ((), False, IN_CHILD),
    ((), False, IN_PARENT),
    (((_DATA[0], FILED), (_DATA[1], FRESH)), True, ALONE),
    (((_DATA[1], FRESH), (_STACK[0], FRESH)), False, IN_CHILD),
    (_FILED, True, IN_PARENT),
    (tuple((page, NOTHING) for page in (*_DATA, *_STACK)), False, ALONE),
    (tuple((page, READING) for page in (*_DATA, *_STACK)), True, IN_CHILD),
    (((_DATA[0], NOTHING), (_DATA[1], FILED)), False, ALONE),
)
"""Pages and what there is of them at first; whether the code's second page is a file's and not present; the fork."""
_LEFT_OUT = ("int ", "int3", "int1", "lar ", "lsl ", "verr ", "verw ", "mov Sw", "pop ES", "pop SS", "pop DS", "pop FS",
             "pop GS", "les ", "lds ", "lss ", "lfs ", "lgs ")  # fmt: skip
"""What descriptor tables and gates decide, and no page."""


def forms(family: str) -> tuple[Form, ...]:
    """Those that reach memory, but for those that are about segments."""
    return tuple(each for each in restarts.forms(family) if not each.name.startswith(_LEFT_OUT))


def needs_kernel(vector: Vector) -> bool:
    """A bare machine has nobody who brings such pages."""
    return bool(vector.forked) or any(left >= FRESH for _, left in vector.absent)


def vectors(family: str, seed: int, first: int, count: int) -> Iterator[Vector]:
    """As ``generate.vectors``: form by form, each way and byte in turn."""
    table = forms(family)
    salt = zlib.crc32(f"pages {family}".encode())
    for number in range(first, first + count):
        rng = random.Random(seed << 64 | salt << 32 | number)
        at = number // len(table)
        pages, code, forked = WAYS[at % len(WAYS)]
        vector = restarts.draw(table[number % len(table)], rng, at, number, at // len(WAYS))
        yield _paged(vector, number, pages, code, at // len(WAYS), forked)


def _paged(
    vector: Vector, number: int, pages: tuple[tuple[int, int], ...], code: bool, byte: int, forked: int
) -> Vector:
    """Pieces of memory in a page that is demand-zero are left out: it would be touched; LOW is not there."""
    away = {page for page, left in pages if left == FRESH} | {LOW, LOW + PAGE_SIZE}
    memory = tuple(piece for piece in _by_page(vector.memory) if piece[0] & -PAGE_SIZE not in away)
    if code:
        second = CODE + (1 + number % (CODE_PAGES - 2)) * PAGE_SIZE
        vector = replace(vector, eip=second - 1 - byte % len(vector.code))
        pages = (*pages, (second, FILED))
    return replace(vector, memory=memory, absent=pages, forked=forked)


def _by_page(pieces: tuple[tuple[int, bytes], ...]) -> Iterator[tuple[int, bytes]]:
    """Each piece cut at the border of pages."""
    for address, data in pieces:
        fits = min(len(data), PAGE_SIZE - address % PAGE_SIZE)
        yield address, data[:fits]
        if data[fits:]:
            yield from _by_page(((address + fits, data[fits:]),))
