"""Two threads that fault on one page: while the first waits for a frame, the second answers; one page, no frame lost.

The wait is the request for a frame itself: where ``alloc_page`` may sleep, the other thread's fault is run to its end.
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.mm.fault import Resolution
from sandbox.kernel.mm.mmap import MAP_FIXED, MAP_PRIVATE
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.process.fork import dup_mm
from sandbox.x86.masks import PF_PROT, PF_USER, PF_WRITE
from tests.kernel.mm.conftest import AREA, MakeSpace, Space


class Waits:
    """The allocator, but the next request of the fault handlers waits while ``meanwhile`` happens."""

    def __init__(self, pages: PageAllocator, meanwhile: Callable[[], None]) -> None:
        self._pages, self._meanwhile = pages, meanwhile
        self.waited = 0

    def alloc_page(self, *arguments: object, **named: object) -> int:
        if not self.waited:
            self.waited += 1
            self._meanwhile()
        return self._pages.alloc_page(*arguments, **named)  # type: ignore[arg-type]

    def put_page(self, pfn: int) -> None:
        self._pages.put_page(pfn)


def race(made: Space, error_code: int) -> tuple[Resolution, list[Resolution], int]:
    """What became of the fault that waits and of the one in between; frames that are gone afterwards."""
    faults, answers = made.kernel.faults, list[Resolution]()

    def fault() -> Resolution:
        return faults.do_page_fault(made.cpu, made.mm, AREA, error_code, AREA, made.task.limits)

    pages = faults._page_alloc
    free = made.kernel.pgdat.free_frames
    waits = Waits(pages, lambda: answers.append(fault()))
    faults._page_alloc = waits  # type: ignore[assignment]
    first = fault()
    faults._page_alloc = pages
    assert waits.waited
    return first, answers, free - made.kernel.pgdat.free_frames


def test_a_fresh_page(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    made.map()
    made.kernel.tables.pte_alloc(made.mm.pgd, AREA)
    assert race(made, PF_USER | PF_WRITE) == (Resolution.SPURIOUS, [Resolution.DEMAND_ZERO], 1)
    assert made.count(AREA) == 1
    assert made.write(AREA, 5)
    assert made.read(AREA) == 5


def test_a_table_that_is_missing(space: MakeSpace, paging: str) -> None:
    """Both make one: the second table goes back."""
    made = space(paging=paging)
    made.map()
    tables, answers = made.kernel.tables, list[int]()
    alloc = tables.alloc_table

    def waits() -> int:
        if not answers:
            answers.append(0)
            answers.append(tables.pte_alloc(made.mm.pgd, AREA))
        return alloc()

    held = made.kernel.table_frames.held
    tables.alloc_table = waits
    assert tables.pte_alloc(made.mm.pgd, AREA) == answers[1]
    assert made.kernel.table_frames.held == held + 1


def test_a_page_of_two_owners(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    made.map()
    assert made.write(AREA, 7)
    old = made.frame(AREA)
    child = dup_mm(made.kernel, made.cpu, made.mm)
    assert race(made, PF_USER | PF_WRITE | PF_PROT) == (Resolution.SPURIOUS, [Resolution.COW_COPY], 1)
    assert made.kernel.memmap.count(old) == 1
    assert made.count(AREA) == 1
    assert made.read(AREA) == 7
    made.kernel.mmu.mmput(made.cpu, child)


def test_a_private_page_of_a_file(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    inode = made.kernel.files.add("/data", b"x" * 4096)
    made.kernel.mmap.do_mmap(made.task, AREA, 4096, 3, MAP_PRIVATE | MAP_FIXED, inode, 0)
    assert made.read(AREA) == 0x78787878
    made.kernel.mmap.do_mmap(made.task, AREA, 4096, 3, MAP_PRIVATE | MAP_FIXED, inode, 0)
    assert race(made, PF_USER | PF_WRITE) == (Resolution.SPURIOUS, [Resolution.FILE_PRIVATE], 1)
    assert made.write(AREA, 5)
    assert made.read(AREA) == 5
