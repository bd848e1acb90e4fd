"""Physical memory: the PC's map, the views, and the one door."""

from __future__ import annotations

import gc
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import sandbox
from sandbox.machine.memory import (
    MOST_RAM,
    ForbiddenWrite,
    MemoryInUse,
    OutsideRam,
    PhysicalMemory,
    Reason,
)
from sandbox.x86.errors import ConfigurationError

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30


class FakeCpu:
    def __init__(self) -> None:
        self.mapped: list[tuple[int, int, int]] = []

    def map_ram(self, physical: int, size: int, host_address: int) -> None:
        self.mapped.append((physical, size, host_address))


@pytest.mark.parametrize(
    ("ram", "ranges"),
    [
        (512 * KB, [(0, 512 * KB, 0)]),
        (1 * MB, [(0, 640 * KB, 0)]),
        (64 * MB, [(0, 640 * KB, 0), (MB, 63 * MB, MB)]),
        (2 * GB, [(0, 640 * KB, 0), (MB, 2 * GB - MB, MB)]),
        (4 * GB, [(0, 640 * KB, 0), (MB, 2 * GB - MB, MB), (4 * GB, 2 * GB, 2 * GB)]),
        (62 * GB, [(0, 640 * KB, 0), (MB, 2 * GB - MB, MB), (4 * GB, 60 * GB, 2 * GB)]),
    ],
)
def test_ranges_are_those_of_a_pc(ram: int, ranges: list[tuple[int, int, int]]) -> None:
    assert PhysicalMemory(ram).ranges == ranges


def test_holes_are_cut_out() -> None:
    memory = PhysicalMemory(64 * MB, holes=((14 * MB, 2 * MB),))
    assert memory.ranges == [(0, 640 * KB, 0), (MB, 13 * MB, MB), (16 * MB, 48 * MB, 16 * MB)]
    assert memory.is_ram(14 * MB - 4, 4)
    assert not memory.is_ram(14 * MB)
    assert not memory.is_ram(16 * MB - 1)
    assert memory.is_ram(16 * MB)
    assert list(memory.frames()) == [(0, 160), (256, 13 * 256), (4096, 48 * 256)]


def test_hole_across_the_end_of_a_range_and_above_4_gb() -> None:
    memory = PhysicalMemory(3 * GB, holes=((GB, 8 * GB),))
    assert memory.ranges == [(0, 640 * KB, 0), (MB, GB - MB, MB)]
    assert memory.end == GB
    memory = PhysicalMemory(3 * GB, holes=((4 * GB, MB),))
    assert memory.ranges[-1] == (4 * GB + MB, GB - MB, 2 * GB + MB)
    assert memory.end == 5 * GB


@pytest.mark.parametrize("ram", [0, -4096, 4097, MOST_RAM + 4096])
def test_impossible_sizes(ram: int) -> None:
    with pytest.raises(ConfigurationError):
        PhysicalMemory(ram)


@pytest.mark.parametrize("hole", [(100, 4096), (4096, 100), (4096, 0), (0, 64 * MB)])
def test_impossible_holes(hole: tuple[int, int]) -> None:
    with pytest.raises(ConfigurationError):
        PhysicalMemory(64 * MB, holes=(hole,))


def test_never_ram() -> None:
    memory = PhysicalMemory(4 * GB)
    for physical in (0xA0000, 0xFFFFF, 0x80000000, 0xFFFFFFFF, 6 * GB, -1):
        assert not memory.is_ram(physical), hex(physical)
    for physical in (0, 0x9FFFF, 0x100000, 0x7FFFFFFF, 4 * GB, 6 * GB - 1):
        assert memory.is_ram(physical), hex(physical)
    assert not memory.is_ram(0x9FFFF, 2)
    assert not memory.is_ram(0x7FFFFFFF, 2)


def test_a_frame_above_4_gb_is_its_own() -> None:
    memory = PhysicalMemory(4 * GB)
    memory.host_write(5 * GB + 8, b"high", Reason.IMAGE)
    memory.host_write(GB + 8, b"low.", Reason.IMAGE)
    assert memory.read(5 * GB + 8, 4) == b"high"
    assert memory.read_word(5 * GB + 8) == int.from_bytes(b"high", "little")
    assert memory.words[memory.host_index(5 * GB + 8) >> 2] == int.from_bytes(b"high", "little")
    assert memory.words[GB + 8 >> 2] == int.from_bytes(b"low.", "little")
    assert memory.read_quad(5 * GB + 8) == int.from_bytes(b"high", "little")


def test_reads_outside() -> None:
    memory = PhysicalMemory(64 * MB)
    for physical, size in ((0x9FFFE, 4), (64 * MB, 1), (0x80000000, 4)):
        with pytest.raises(OutsideRam) as caught:
            memory.read(physical, size)
        assert hex(physical) in caught.value.summary
    assert memory.read_entry(0x80000000, 8) == 0
    memory.host_write(0x1000, b"\x67\x20\x00\x80\0\0\0\x80", Reason.TABLE)
    assert memory.read_entry(0x1000, 4) == 0x80002067
    assert memory.read_entry(0x1000, 8) == 1 << 63 | 0x80002067


def test_views_are_read_only() -> None:
    memory = PhysicalMemory(MB)
    for view in (memory.bytes, memory.words, memory.quads):
        with pytest.raises(TypeError):
            view[0] = 1


def test_the_door_counts_by_reason() -> None:
    memory = PhysicalMemory(64 * MB, audit=False)
    memory.host_write(0x1000, b"abc", Reason.IMAGE)
    memory.host_fill(0x100000, 3 * MB + 5, 0xAA, Reason.DMA)
    words = memory.mutable_words(Reason.TABLE)
    words[0x2000 >> 2] = 0x2067
    memory.count(Reason.TABLE, 4)
    assert memory.host_bytes() == {"image": 3, "dma": 3 * MB + 5, "table": 4}
    assert memory.read(0x1000, 4) == b"abc\0"
    assert memory.read(0x100000 + 3 * MB, 8) == b"\xaa" * 5 + b"\0" * 3
    assert memory.read_word(0x2000) == 0x2067


def test_the_door_is_shut_outside_ram() -> None:
    memory = PhysicalMemory(64 * MB)
    for physical, size in ((0x9FFFE, 4), (64 * MB - 1, 2), (0xA0000, 1)):
        with pytest.raises(OutsideRam):
            memory.host_write(physical, bytes(size), Reason.DMA)
        with pytest.raises(OutsideRam):
            memory.host_fill(physical, size, 0, Reason.DMA)
    assert memory.host_bytes() == {}


def test_audited_views_count_by_themselves() -> None:
    memory = PhysicalMemory(4 * GB, audit=True)
    quads = memory.mutable_quads(Reason.TABLE)
    quads[memory.host_index(5 * GB) >> 3] = 7
    words = memory.mutable_words(Reason.TABLE)
    words[16:20] = words[20:24]
    memory.count(Reason.TABLE, 99)
    assert memory.host_bytes() == {"table": 24}
    assert memory.read_quad(5 * GB) == 7
    with pytest.raises(OutsideRam):
        words[0xA0000 >> 2] = 1
    with pytest.raises(TypeError):
        words[0:1][0] = 1


def test_audit_keeps_declared_frames_to_their_reason() -> None:
    memory = PhysicalMemory(64 * MB, audit=True)
    memory.declare(Reason.STRUCT_PAGE, 0x200000, 0x3000)
    memory.host_write(0x202FFC, b"page", Reason.STRUCT_PAGE)
    with pytest.raises(ForbiddenWrite) as caught:
        memory.host_write(0x1FFFFE, b"disk", Reason.DMA)
    assert caught.value.physical == 0x200000
    assert caught.value.owner is Reason.STRUCT_PAGE
    with pytest.raises(ForbiddenWrite):
        memory.host_fill(0x202000, 0x2000, 0, Reason.DMA)
    with pytest.raises(ForbiddenWrite):
        memory.mutable_words(Reason.TABLE)[0x200000 >> 2] = 1
    memory.withdraw(0x200000, 0x3000)
    memory.host_write(0x1FFFFE, b"disk", Reason.DMA)


def test_audit_confines_a_reason_to_what_is_declared() -> None:
    memory = PhysicalMemory(64 * MB, audit=True)
    memory.confine(Reason.TABLE)
    words = memory.mutable_words(Reason.TABLE)
    with pytest.raises(ForbiddenWrite) as caught:
        words[0x5000 >> 2] = 1
    assert caught.value.owner is None
    memory.declare(Reason.TABLE, 0x5000, 4096)
    words[0x5000 >> 2] = 1
    assert memory.read_word(0x5000) == 1


def test_memory_outlives_its_owner_while_a_cpu_is_mapped() -> None:
    cpu = FakeCpu()
    memory = PhysicalMemory(4 * GB)
    base = memory.host_base
    memory.map_into(cpu)
    assert cpu.mapped == [(physical, size, base + offset) for physical, size, offset in memory.ranges]
    with pytest.raises(MemoryInUse):
        memory.close()
    memory.host_write(0, b"here", Reason.IMAGE)
    del memory
    gc.collect()
    assert f"{base:x}-" in Path("/proc/self/maps").read_text()


def test_memory_goes_when_the_last_cpu_is_closed() -> None:
    cpu = FakeCpu()
    memory = PhysicalMemory(64 * MB)
    memory.map_into(cpu)
    memory.unmapped_from(cpu)
    words = memory.mutable_words(Reason.TABLE)
    memory.close()
    words[0] = 1
    with pytest.raises(ValueError, match="released"):
        memory.words[0]


def test_creation_is_cheap_and_touches_nothing() -> None:
    def best_of(ram: int) -> float:
        seconds = []
        for _ in range(20):
            before = time.thread_time()
            PhysicalMemory(ram)
            seconds.append(time.thread_time() - before)
        return min(seconds)

    assert best_of(64 * MB) < 100e-6
    assert best_of(MOST_RAM) < 100e-6


def test_nobody_goes_round_the_door() -> None:
    """No module but the memory's own touches the buffer, its address, or ctypes' copies."""
    root = Path(sandbox.__file__).parent
    round_the_door = re.compile(r"\._mutable\b|\._buffer\b|ctypes.*\bmem(move|set)\b")
    guilty = [
        path.relative_to(root).as_posix()
        for path in sorted(root.rglob("*.py"))
        if path.name != "memory.py" and round_the_door.search(path.read_text())
    ]
    assert guilty == []
    maps = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.py")) if "host_base" in path.read_text()]
    assert set(maps) <= {"machine/memory.py", "machine/machine.py"}


def test_what_the_host_stores_is_told_before() -> None:
    memory = PhysicalMemory(64 * MB, audit=False)
    told: list[tuple[int, int, Reason, int]] = []
    memory.store_watch = lambda at, size, reason: told.append((at, size, reason, memory.read_word(at)))
    memory.host_write(0x1000, b"abcd", Reason.DMA)
    memory.host_fill(0x1000, 4, 0xAA, Reason.IMAGE)
    memory.store_watch = None
    memory.host_write(0x1000, b"efgh", Reason.DMA)
    assert told == [(0x1000, 4, Reason.DMA, 0), (0x1000, 4, Reason.IMAGE, int.from_bytes(b"abcd", "little"))]


def test_stores_through_views_are_told_before_and_behind() -> None:
    """Of single words on watched pages only, of slices always; below an observer of tables, which is told as ever."""
    memory = PhysicalMemory(64 * MB, audit=False)
    told: list[tuple[str, int, int, int]] = []

    def watch(at: int, size: int, reason: Reason) -> Callable[[], object]:
        told.append(("before", at, size, memory.read_word(at)))
        return lambda: told.append(("behind", at, size, memory.read_word(at)))

    early = memory.mutable_words(Reason.TABLE)
    memory.store_watch = watch
    memory.watched_pages.add(1)
    words = memory.mutable_words(Reason.TABLE)
    early[0x400] = 7
    words[0x400] = 8
    words[0x800] = 9
    assert told == [("before", 0x1000, 4, 7), ("behind", 0x1000, 4, 8)]
    words[0x401:0x403] = memoryview(bytes(8)).cast("I")
    assert told[2:] == [("before", 0x1004, 8, 0), ("behind", 0x1004, 8, 0)]
    assert (words[0x400], len(words)) == (8, len(early))


@pytest.mark.parametrize("size", [8 * KB, 6 * MB + 12 * KB])
def test_repeated_bytes_are_private_to_each_page(size: int) -> None:
    """A store to one page changes no other, in no other machine, and in no child process."""
    at = 2 * MB
    memory, other = PhysicalMemory(16 * MB), PhysicalMemory(16 * MB)
    data = bytes(range(256)) * 32
    for each in (memory, other):
        each.host_repeat(at, size, data, Reason.STRUCT_PAGE)
    whole = (data * (size // len(data) + 1))[:size]
    assert memory.read(at - 1, size + 2) == b"\0" + whole + b"\0"
    child = os.fork()
    if not child:
        memory.host_write(at + 8, b"child", Reason.STRUCT_PAGE)
        os._exit(memory.read(at + 8, 5) != b"child")
    assert os.waitpid(child, 0)[1] == 0
    memory.host_write(at + 4 * KB, b"new", Reason.STRUCT_PAGE)
    assert memory.read(at, size) == whole[: 4 * KB] + b"new" + whole[4 * KB + 3 :]
    assert other.read(at, size) == whole
    assert memory.host_bytes() == {"struct page": size + 3}


def test_repeated_bytes_pass_the_door() -> None:
    memory = PhysicalMemory(16 * MB, audit=True)
    memory.declare(Reason.TABLE, MB, 4 * KB)
    with pytest.raises(ForbiddenWrite):
        memory.host_repeat(MB, 4 * KB, bytes(4 * KB), Reason.STRUCT_PAGE)
    with pytest.raises(OutsideRam):
        memory.host_repeat(15 * MB, 2 * MB, bytes(4 * KB), Reason.STRUCT_PAGE)
