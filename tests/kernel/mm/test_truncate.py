"""What a truncation takes away from who has the file mapped.

Expectations: SDM 3A 4.10.4.2 (a CPU may use a translation until it is invalidated); mmap(2), SIGBUS, and ftruncate(2).
"""

from __future__ import annotations

import pytest

from sandbox.kernel.mm.mmap import MAP_SHARED
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace
from tests.kernel.mm.test_pageout import make_file, map_file


@pytest.mark.parametrize("left", [0, 1])
def test_nobody_keeps_a_translation_of_what_was_cut_off(space: MakeSpace, paging: str, left: int) -> None:
    made = space(paging=paging)
    kernel, inode = made.kernel, make_file(3)
    map_file(made, inode, 3, MAP_SHARED)
    for page in range(3):
        assert made.write(AREA + page * PAGE, 50 + page)
    kernel.writeback.vmtruncate(inode, left * PAGE)
    for page in range(3):
        there = page < left
        assert made.write(AREA + page * PAGE, 60 + page) is there
        assert made.read(AREA + page * PAGE) == (60 + page if there else 0)
        assert bool(made.entry(AREA + page * PAGE)) is there
