"""mmap, munmap, mprotect, brk: as mmap(2) and its relatives say, on the tables and by the CPU."""

from __future__ import annotations

import pytest

from sandbox.kernel.abi.errno import EACCES, EEXIST, EINVAL, ENOMEM, KernelError
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.mm.mmap import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_POPULATE,
    MAP_PRIVATE,
)
from sandbox.x86.paging import NX, P
from tests.conftest import Run
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace, Space

ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS


def refused(made: Space, error: int, call, *arguments: int) -> None:
    with pytest.raises(KernelError) as caught:
        call(made.task, *arguments)
    assert caught.value.errno == error, arguments


def test_prot_none_and_back(space: MakeSpace, paging: str) -> None:
    """The page keeps its frame, its bytes and its count while nobody may touch it."""
    made = space(paging=paging)
    made.map()
    made.write(AREA, 77)
    frame = made.frame(AREA)
    made.kernel.mmap.do_mprotect(made.task, AREA, PAGE, 0)
    assert not made.entry(AREA) & P
    assert made.read(AREA) == 0
    assert not made.write(AREA, 1)
    assert made.kernel.memmap.count(frame) == 1
    made.kernel.mmap.do_mprotect(made.task, AREA, PAGE, 1)
    assert made.read(AREA) == 77
    assert not made.write(AREA, 1)
    made.kernel.mmap.do_mprotect(made.task, AREA, PAGE, 3)
    assert made.write(AREA, 78)
    assert made.frame(AREA) == frame


def test_unmapping_prot_none_frees_the_frame(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    made.map()
    made.write(AREA, 77)
    free = made.kernel.pgdat.free_frames
    made.kernel.mmap.do_mprotect(made.task, AREA, PAGE, 0)
    made.kernel.mmap.do_munmap(made.task, AREA, PAGE)
    assert made.kernel.pgdat.free_frames == free + 1


def test_munmap_middle(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    made.map(5)
    for number in range(5):
        made.write(AREA + number * PAGE, number + 1)
    free = made.kernel.pgdat.free_frames
    made.kernel.mmap.do_munmap(made.task, AREA + PAGE, 3 * PAGE)
    assert [made.read(AREA + number * PAGE) for number in range(5)] == [1, 0, 0, 0, 5]
    assert made.kernel.pgdat.free_frames == free + 3
    made.kernel.mmap.do_munmap(made.task, AREA, 5 * PAGE)
    assert made.kernel.pgdat.free_frames == free + 5
    made.kernel.mmap.do_munmap(made.task, AREA, 5 * PAGE)


def test_map_over_shows_new_zeros(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    made.map(2)
    made.write(AREA, 1)
    made.write(AREA + PAGE, 2)
    made.map(1)
    assert (made.read(AREA), made.read(AREA + PAGE)) == (0, 2)


def test_mprotect_splits(space: MakeSpace) -> None:
    made = space()
    made.map(3)
    made.kernel.mmap.do_mprotect(made.task, AREA + PAGE, PAGE, 1)
    assert [made.write(AREA + number * PAGE, 1) for number in range(3)] == [True, False, True]


def test_execute_permission_is_nx(space: MakeSpace) -> None:
    made = space()
    made.map(prot=7)
    made.write(AREA, 1)
    assert not made.entry(AREA) & NX
    made.kernel.mmap.do_mprotect(made.task, AREA, PAGE, 3)
    assert made.entry(AREA) & NX
    made.kernel.mmap.do_mprotect(made.task, AREA, PAGE, 5)
    assert not made.entry(AREA) & NX


def test_populate(space: MakeSpace) -> None:
    made = space()
    at = made.kernel.mmap.do_mmap(made.task, 0, 3 * PAGE, 3, ANONYMOUS | MAP_POPULATE, None, 0)
    assert all(made.entry(at + number * PAGE) & P for number in range(3))
    assert made.resolutions == []
    assert made.write(at, 1)
    assert made.resolutions == []


def test_places(space: MakeSpace) -> None:
    made = space()
    first = made.kernel.mmap.do_mmap(made.task, 0, 100, 3, ANONYMOUS, None, 0)
    second = made.kernel.mmap.do_mmap(made.task, 0, 100, 3, ANONYMOUS, None, 0)
    assert first % PAGE == second % PAGE == 0
    assert first != second
    assert made.kernel.mmap.do_mmap(made.task, AREA, 100, 3, ANONYMOUS, None, 0) == AREA, "a free hint is taken"
    assert made.kernel.mmap.do_mmap(made.task, AREA, 100, 3, ANONYMOUS, None, 0) != AREA


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (EINVAL, (0, 0, 3, ANONYMOUS)),
        (EINVAL, (0, PAGE, 3, MAP_ANONYMOUS)),
        (EINVAL, (AREA + 1, PAGE, 3, ANONYMOUS | MAP_FIXED)),
        (ENOMEM, (0, 0xFFFFFFFF, 3, ANONYMOUS)),
        (ENOMEM, (0, TASK_SIZE, 3, ANONYMOUS)),
        (ENOMEM, (TASK_SIZE, PAGE, 3, ANONYMOUS | MAP_FIXED)),
        (ENOMEM, (TASK_SIZE - PAGE, 2 * PAGE, 3, ANONYMOUS | MAP_FIXED)),
        (EEXIST, (0x8048000, PAGE, 3, ANONYMOUS | MAP_FIXED_NOREPLACE)),
    ],
)
def test_mmap_refuses(space: MakeSpace, error: int, arguments: tuple[int, ...]) -> None:
    made = space()
    before = len(made.mm.vmas)
    refused(made, error, made.kernel.mmap.do_mmap, *arguments, None, 0)
    assert len(made.mm.vmas) == before


def test_shared_file_needs_a_writable_file(space: MakeSpace) -> None:
    made = space()
    inode = made.kernel.files.add("/data", b"x")
    with pytest.raises(KernelError) as caught:
        made.kernel.mmap.do_mmap(made.task, 0, PAGE, 3, 1, inode, 0, writable_file=False)
    assert caught.value.errno == EACCES
    at = made.kernel.mmap.do_mmap(made.task, 0, PAGE, 1, 1, inode, 0, writable_file=False)
    refused(made, EACCES, made.kernel.mmap.do_mprotect, at, PAGE, 3)


def test_munmap_refuses(space: MakeSpace) -> None:
    made = space()
    for arguments in ((1, PAGE), (AREA, 0), (TASK_SIZE, PAGE), (TASK_SIZE - PAGE, 2 * PAGE), (PAGE, 0xFFFFFFFF)):
        refused(made, EINVAL, made.kernel.mmap.do_munmap, *arguments)


def test_mprotect_refuses(space: MakeSpace) -> None:
    """mprotect(2): EINVAL for the address or bits that are none, ENOMEM for what is not mapped or wraps."""
    made = space()
    made.map(2)
    refused(made, EINVAL, made.kernel.mmap.do_mprotect, AREA + 1, PAGE, 1)
    refused(made, EINVAL, made.kernel.mmap.do_mprotect, AREA, PAGE, 0x40)
    made.kernel.mmap.do_mprotect(made.task, AREA + 64 * PAGE, 0, 1)
    refused(made, ENOMEM, made.kernel.mmap.do_mprotect, AREA + 64 * PAGE, PAGE, 1)
    refused(made, ENOMEM, made.kernel.mmap.do_mprotect, TASK_SIZE, PAGE, 1)
    refused(made, ENOMEM, made.kernel.mmap.do_mprotect, 0xFFFFF000, PAGE, 1)
    refused(made, ENOMEM, made.kernel.mmap.do_mprotect, 0xFFFFF000, 2 * PAGE, 1)
    refused(made, ENOMEM, made.kernel.mmap.do_mprotect, AREA, 4 * PAGE, 1)
    assert not made.write(AREA + PAGE, 1), "the areas before the hole were changed"


def test_brk(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    start = made.kernel.mmap.do_brk(made.task, 0)
    assert made.kernel.mmap.do_brk(made.task, start - 1) == start
    assert not made.write(start, 1)
    assert made.kernel.mmap.do_brk(made.task, start + 3 * PAGE + 5) == start + 3 * PAGE + 5
    assert all(made.write(start + number * PAGE, 1) for number in range(4))
    assert not made.write(start + 4 * PAGE, 1)
    free = made.kernel.pgdat.free_frames
    assert made.kernel.mmap.do_brk(made.task, start + PAGE) == start + PAGE
    assert made.kernel.pgdat.free_frames == free + 3
    assert not made.write(start + PAGE, 1)
    assert made.kernel.mmap.do_brk(made.task, start + 2 * PAGE) == start + 2 * PAGE
    assert made.read(start + PAGE) == 0, "grown again, it is zero"
    assert made.read(start) == 1
    made.map(at=start + 16 * PAGE)
    assert made.kernel.mmap.do_brk(made.task, start + 20 * PAGE) == start + 2 * PAGE, "a mapping is in the way"
    assert made.kernel.mmap.do_brk(made.task, TASK_SIZE + PAGE) == start + 2 * PAGE


def test_madvise_dontneed(run: Run, paging: str) -> None:
    text = """
_start: map_pages 2
        mov ebp, eax
        mov dword ptr [eax], 1
        mov dword ptr [eax+PAGE], 2
        mov ebx, eax
        mov ecx, PAGE
        mov edx, 4
        mov eax, 219
        int 0x80
        expect eax, 0, 1
        expect_at ebp, 0, 2
        expect_at ebp+PAGE, 2, 3
        pass
"""
    assert run(text, paging=paging).status == 0
