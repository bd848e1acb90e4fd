"""What a shared mapping stores gets to the file by msync, fsync, munmap and at the end, and a clean page does not.

Expectations: msync(2), fsync(2), mmap(2) under MAP_SHARED and MAP_PRIVATE; the dirty bit, SDM 3A 4.8 and 4.10.4.2 (a
CPU sets it only when its translation says that it is clear).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sandbox.kernel.mm.mmap import MAP_FIXED, MAP_PRIVATE, MAP_SHARED
from sandbox.kernel.vfs.inode import Inode
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace, Space

PAGES = 40
"""More than are flushed one at a time."""


class Disk(Inode):
    """A file that knows which of its pages were written, and when."""

    name = "/disk"

    def __init__(self) -> None:
        self.blocks = [bytes(PAGE)] * PAGES
        self.writes: list[int] = []

    @property
    def size(self) -> int:
        return PAGES * PAGE

    def read_block(self, index: int) -> bytes:
        return self.blocks[index]

    def write_block(self, index: int, data: bytes) -> None:
        self.writes.append(index)
        self.blocks[index] = data

    def word(self, page: int = 0) -> int:
        return int.from_bytes(self.blocks[page][:4], "little")


def mapped(made: Space, flags: int = MAP_SHARED) -> Disk:
    disk = Disk()
    made.kernel.mmap.do_mmap(made.task, AREA, PAGES * PAGE, 3, flags | MAP_FIXED, disk, 0)
    return disk


def msync(made: Space, disk: Disk) -> None:
    made.kernel.writeback.sync_mm(made.cpu, made.mm, AREA, AREA + PAGES * PAGE)


def fsync(made: Space, disk: Disk) -> None:
    made.kernel.writeback.sync_inode(disk)


@pytest.mark.parametrize("sync", [msync, fsync])
@pytest.mark.parametrize("pages", [1, PAGES])
def test_each_store_is_written_once(
    space: MakeSpace, paging: str, sync: Callable[[Space, Disk], None], pages: int
) -> None:
    made = space(paging=paging)
    disk = mapped(made)
    for round_ in (1, 2, 3):
        for page in range(pages):
            assert made.write(AREA + page * PAGE, round_)
        assert disk.word() == round_ - 1, "nobody has asked for it yet"
        sync(made, disk)
        assert [disk.word(page) for page in range(pages)] == [round_] * pages
        sync(made, disk)
        assert disk.writes == list(range(pages)) * round_, "a clean page was written"


def test_what_was_only_read_is_not_written(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    disk = mapped(made)
    assert made.read(AREA) == 0
    msync(made, disk)
    assert made.write(AREA + PAGE, 5)
    msync(made, disk)
    assert disk.writes == [1]


def test_a_part_is_written(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    disk = mapped(made)
    for page in range(4):
        assert made.write(AREA + page * PAGE, 7)
    made.kernel.writeback.sync_mm(made.cpu, made.mm, AREA + PAGE, AREA + 3 * PAGE)
    assert disk.writes == [1, 2]


def test_munmap_writes(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    disk = mapped(made)
    assert made.write(AREA + 3 * PAGE, 9)
    made.kernel.mmap.do_munmap(made.task, AREA + 2 * PAGE, 2 * PAGE)
    assert (disk.writes, disk.word(3)) == ([3], 9)


def test_the_end_of_the_space_writes(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    disk = mapped(made)
    assert made.write(AREA + 3 * PAGE, 9)
    made.kernel.mmu.mmput(made.cpu, made.mm)
    assert (disk.writes, disk.word(3)) == ([3], 9)


def test_a_private_mapping_never_writes(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    disk = mapped(made, MAP_PRIVATE)
    assert made.write(AREA, 1)
    msync(made, disk)
    fsync(made, disk)
    made.kernel.mmap.do_munmap(made.task, AREA, PAGES * PAGE)
    assert disk.writes == []
