"""Copies between user memory and a window on highmem: a fault there ends the copy, which goes on without a window.

As Linux: a fault in an atomic section takes the fixup (in_atomic in do_page_fault), file_read_actor and
generic_file_write touch the page without a window and try again (mm/filemap.c, 2.6).
"""

from __future__ import annotations

import pytest

from sandbox.kernel.base.events import PageFault
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace, Space
from tests.kernel.mm.machines import high

SIZE = 3000
AT = AREA + PAGE - 1000
"""The copy crosses into the next page."""


def windows_at_faults(made: Space) -> list[tuple[str, int]]:
    """(resolution, windows that are open) of each fault from now on."""
    seen: list[tuple[str, int]] = []
    depth = made.kernel.highmem.depth
    made.kernel.bus.subscribe(lambda fault: seen.append((fault.resolution, depth[made.cpu.index])), PageFault)
    return seen


@pytest.fixture
def made(space: MakeSpace, paging: str) -> Space:
    return space(paging=paging, ram=32 << 20, boot="highmem=8m")


@pytest.mark.parametrize("there", [(), (0,), (1,), (0, 1)])
def test_into_pages_that_are_not_there(made: Space, there: tuple[int, ...]) -> None:
    made.map(2)
    for page in there:
        made.write(AREA + page * PAGE, 1)
    (pfn,), seen = high(made.kernel), windows_at_faults(made)
    made.kernel.uaccess.copy_frame_to_user(made.task, AT, pfn, 0, SIZE)
    assert made.read(AT) == pfn and made.kernel.highmem.depth == [0]
    assert [open_windows for resolution, open_windows in seen if resolution == "demand-zero"] == [0] * (2 - len(there))
    assert {resolution for resolution, open_windows in seen if open_windows} <= {"fixup"}
    assert ("fixup", 1) in seen or len(there) == 2


def test_out_of_pages_that_are_not_there(made: Space) -> None:
    made.map(2)
    (pfn,), seen = high(made.kernel), windows_at_faults(made)
    assert not made.kernel.uaccess.copy_frame_from_user(made.task, AT, pfn, 0, SIZE)
    assert [open_windows for resolution, open_windows in seen if resolution == "zero-page"] == [0, 0]
    assert made.kernel.highmem.depth == [0]


def test_into_a_page_that_must_be_copied(made: Space) -> None:
    """A write to the zero page, or to one that fork shares, needs a frame: it waits until the window is closed."""
    made.map(2)
    made.read(AREA), made.read(AREA + PAGE)
    (pfn,), seen = high(made.kernel), windows_at_faults(made)
    assert not made.kernel.uaccess.copy_frame_to_user(made.task, AT, pfn, 0, SIZE)
    assert [open_windows for resolution, open_windows in seen if resolution != "fixup"] == [0, 0]
    assert made.read(AT) == pfn


@pytest.mark.parametrize("mapped", [0, 1])
def test_what_cannot_be_answered_is_left(made: Space, mapped: int) -> None:
    if mapped:
        made.map(1)
    (pfn,) = high(made.kernel)
    left = made.kernel.uaccess.copy_frame_to_user(made.task, AT, pfn, 0, SIZE)
    assert left == (SIZE - 1000 if mapped else SIZE)
    left = made.kernel.uaccess.copy_frame_from_user(made.task, AT, pfn, 0, SIZE)
    assert left == (SIZE - 1000 if mapped else SIZE) and made.kernel.highmem.depth == [0]
