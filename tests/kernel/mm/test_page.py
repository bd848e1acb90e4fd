"""struct page in guest memory."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from sandbox.kernel.mm import page
from sandbox.kernel.mm.page import (
    AGE_MAX,
    COUNT,
    PG_CACHE,
    PG_HIGHMEM,
    PG_OPEN,
    PG_TABLE,
    STRUCT_PAGE_BYTES,
    STRUCT_PAGE_SHIFT,
    MemMap,
)
from sandbox.machine.memory import PhysicalMemory

AT = 0x200000


@pytest.fixture
def memory() -> PhysicalMemory:
    return PhysicalMemory(16 << 20)


@pytest.fixture
def memmap(memory: PhysicalMemory) -> MemMap:
    return MemMap(memory, AT, 4096)


def test_the_routines_know_the_same_size() -> None:
    """The x86 code shifts by a constant of its own include file."""
    text = (Path(__file__).resolve().parents[3] / "asm" / "kernel" / "kernel.inc").read_text()
    assert f".set    STRUCT_PAGE_SHIFT, {STRUCT_PAGE_SHIFT}\n" in text
    routines = (Path(__file__).resolve().parents[3] / "asm" / "kernel" / "memmodel.S").read_text()
    assert routines.count("STRUCT_PAGE_SHIFT") == 5, "pfn to page twice, and back in each model"


def test_modules_know_the_same_words() -> None:
    text = (Path(__file__).resolve().parents[3] / "asm" / "images" / "include" / "module.h").read_text()
    found = re.search(r"struct page \{\s*u32 ([^;]*);\s*\};", text)
    assert found is not None
    names = found[1].split(", ")
    assert len(names) * 4 == STRUCT_PAGE_BYTES
    words = ("FLAGS", "COUNT", "MAPPING", "INDEX", "LRU_NEXT", "LRU_PREV", "PRIVATE", "VIRTUAL")
    assert [getattr(page, each) for each in words] == list(range(len(names)))
    assert [each.lower().removeprefix("lru_") for each in words] == names


def test_age_and_private_leave_the_rest_alone(memmap: MemMap) -> None:
    memmap.open(0, 8, PG_HIGHMEM)
    memmap.set_flags(3, memmap.flags(3) | PG_CACHE)
    before = memmap.flags(3)
    memmap.set_age(3, 5)
    memmap.set_private(3, 0xDEADBEEF)
    assert (memmap.age(3), memmap.private(3), memmap.count(3)) == (5, 0xDEADBEEF, 0)
    memmap.set_age(3, 1000)
    assert memmap.age(3) == AGE_MAX == 64
    memmap.set_age(3, 0)
    assert memmap.flags(3) == before
    assert (memmap.age(2), memmap.private(2), memmap.age(4), memmap.private(4)) == (0, 0, 0, 0)


def test_size_is_32_bytes_a_frame_in_whole_pages() -> None:
    assert MemMap.bytes_for(4096) == 4096 * 32
    assert MemMap.bytes_for(1) == 4096
    assert MemMap.bytes_for(129) == 8192


def test_everything_is_reserved_at_first(memmap: MemMap) -> None:
    assert all(memmap.reserved(pfn) for pfn in (0, 1, 4095, 4096, 1 << 30))
    assert memmap.describe(7) == "reserved"


def test_reserved_frames_keep_no_count(memmap: MemMap) -> None:
    memmap.get_page(5)
    assert memmap.count(5) == 0


def test_open_touches_its_frames_only(memmap: MemMap, memory: PhysicalMemory) -> None:
    memmap.open(100, 50, PG_HIGHMEM)
    assert [memmap.reserved(pfn) for pfn in (99, 100, 149, 150)] == [True, False, False, True]
    raw = memory.read(AT + 100 * STRUCT_PAGE_BYTES, STRUCT_PAGE_BYTES)
    assert struct.unpack("<8I", raw) == (PG_OPEN | PG_HIGHMEM, 0, 0, 0, 0, 0, 0, 0)


def test_counts_live_in_guest_memory(memmap: MemMap, memory: PhysicalMemory) -> None:
    memmap.open(100, 1, 0)
    memmap.get_page(100)
    memmap.get_page(100)
    assert memory.read_word(AT + 100 * STRUCT_PAGE_BYTES + 4 * COUNT) == memmap.count(100) == 2


def test_flags_in_words(memmap: MemMap) -> None:
    memmap.open(3, 1, 0)
    assert memmap.describe(3) == "plain"
    memmap.set_flags(3, memmap.flags(3) | PG_TABLE)
    assert memmap.describe(3) == "table"
    memmap.set_flags(3, PG_OPEN | PG_CACHE | PG_HIGHMEM)
    assert memmap.describe(3) == "cache highmem"
