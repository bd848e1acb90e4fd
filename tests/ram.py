"""What a machine's RAM holds, of which most was never touched: those pages are zeros, and reading them costs most.

The host says which pages it has ever made for the buffer (proc(5), ``/proc/self/pagemap``: 64 bits a page, of which
bit 63 is present and bit 62 swapped out).  Elsewhere than on Linux all are read.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

from sandbox.machine.memory import PhysicalMemory
from sandbox.x86.paging import PAGE_SIZE

PAGEMAP = Path("/proc/self/pagemap")
HELD = 3 << 62
ENTRIES = 4096
"""Read at once."""
ZEROS = bytes(PAGE_SIZE)


def touched(memory: PhysicalMemory) -> Iterator[int]:
    """Offsets in the buffer of all pages that may hold something else than zeros, ascending."""
    count = len(memory.bytes) // PAGE_SIZE
    if not os.access(PAGEMAP, os.R_OK):
        yield from range(0, count * PAGE_SIZE, PAGE_SIZE)
        return
    with PAGEMAP.open("rb", buffering=0) as file:
        file.seek(memory.host_base // PAGE_SIZE * 8)
        for first in range(0, count, ENTRIES):
            data = file.read(min(ENTRIES, count - first) * 8)
            if data != data[:8] * (len(data) // 8) or int.from_bytes(data[:8], "little") & HELD:
                yield from ((first + at) * PAGE_SIZE for at, entry in enumerate(array("Q", data)) if entry & HELD)


def pages(memory: PhysicalMemory) -> dict[int, bytes]:
    """A digest of each page that is not zeros, by its number in the buffer."""
    found = {}
    for at in touched(memory):
        page = bytes(memory.bytes[at : at + PAGE_SIZE])
        if page != ZEROS:
            found[at // PAGE_SIZE] = hashlib.blake2b(page, digest_size=8).digest()
    return found


def digest(memory: PhysicalMemory) -> str:
    """Of all of RAM: equal for equal bytes, whoever has read them."""
    return hashlib.blake2b(repr(pages(memory)).encode()).hexdigest()
