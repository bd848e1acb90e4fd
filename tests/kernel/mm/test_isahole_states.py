"""The hole from 14 to 16 MB is cleared in whatever state memory is: contents stay, owners stay, or nothing changes."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandbox.image.build import IMAGES
from sandbox.kernel.abi.errno import EBUSY, ENOMEM, KernelError
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.mm.isahole import HOLE
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.mmap import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from sandbox.kernel.process.fork import dup_mm
from sandbox.runner.run import Session
from sandbox.runner.target import resolve
from tests.kernel.mm.machines import current_task

AREA, PAGE, PAGES = 0x50000000, 4096, 2000
PROGRAM = resolve(IMAGES / "cow-fork")


class Clearing(RuleBasedStateMachine):
    """All of memory but the hole is taken away first, so that programs and the kernel get its frames."""

    paging = "pae"

    def __init__(self) -> None:
        super().__init__()
        self.session = Session("t", PROGRAM.data, [], KernelConfig(ram=16 << 20, paging=self.paging))
        self.task, self.mm = current_task(self.session)
        self.kernel, self.cpu = self.session.kernel, self.task.cpu
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        self.kernel.mmap.do_mmap(self.task, AREA, PAGES * PAGE, 3, flags, None, 0)
        self.plug: list[int] = []
        while self.kernel.pgdat.free_frames:
            self.plug.append(self.kernel.page_alloc.alloc_pages(1))
        self.give([pfn for pfn in self.plug if pfn in HOLE])
        self.data: dict[int, int] = {}
        self.children: list[tuple[Mm, dict[int, int]]] = []
        self.kept: list[int] = []
        self.cleared = False

    def teardown(self) -> None:
        self.session.close()

    @rule(first=st.integers(0, PAGES - 1), count=st.integers(1, 150), value=st.integers(1, 1 << 31))
    def touch(self, first: int, count: int, value: int) -> None:
        for page in range(first, min(first + count, PAGES)):
            if self.cpu.call(self.kernel.routines.put_user_4, eax=value, edi=AREA + page * PAGE) == 0:
                self.data[page] = value

    @precondition(lambda self: len(self.children) < 2)
    @rule()
    def fork(self) -> None:
        try:
            self.children.append((dup_mm(self.kernel, self.cpu, self.mm), dict(self.data)))
        except OutOfMemory:
            return

    def give(self, frames: list[int]) -> None:
        for pfn in frames:
            self.plug.remove(pfn)
            self.kernel.page_alloc.free_pages(pfn)

    @rule(count=st.integers(1, 300))
    def make_room(self, count: int) -> None:
        self.give([pfn for pfn in self.plug if pfn not in HOLE][-count:])

    @rule()
    def the_kernel_takes_one(self) -> None:
        if self.kernel.pgdat.free_frames:
            self.kept.append(self.kernel.page_alloc.alloc_pages(1))

    @precondition(lambda self: self.kept)
    @rule()
    def the_kernel_gives_all(self) -> None:
        while self.kept:
            self.kernel.page_alloc.free_pages(self.kept.pop())

    @precondition(lambda self: not self.cleared)
    @rule()
    def clear(self) -> None:
        frames = self.kernel.pgdat
        total, held = frames.total_frames, frames.total_frames - frames.free_frames
        try:
            self.kernel.isahole.clear_range(HOLE)
        except KernelError as error:
            assert error.errno in (EBUSY, ENOMEM)
            assert frames.total_frames == total
        else:
            self.cleared = True
            assert frames.total_frames == total - len(HOLE)
        cached = len(self.kernel.pagecache)
        assert frames.total_frames - frames.free_frames in range(held - cached - 1, held + 1), (
            "reclaim may give, never take"
        )

    @invariant()
    def everybody_has_what_he_had(self) -> None:
        tables = self.kernel.tables
        for mm, data in [*self.children, (self.mm, self.data)]:
            for page, value in list(data.items())[::17]:
                entry = tables.lookup_pte(mm.pgd, AREA + page * PAGE)
                assert self.kernel.peek.peek(mm, AREA + page * PAGE, 4) == value.to_bytes(4, "little")
                assert not (self.cleared and tables.pte_pfn(entry) in HOLE)

    @invariant()
    def the_hole_is_nobodys(self) -> None:
        if self.cleared:
            assert all(self.kernel.memmap.reserved(pfn) for pfn in (HOLE.start, HOLE.start + 77, HOLE.stop - 1))
        frames = self.kernel.pgdat
        assert frames.free_frames == sum(frames.zone_free(zone) for zone in frames.zones)


class ClearingTwoLevel(Clearing):
    paging = "legacy"


TestClearing, TestClearingTwoLevel = Clearing.TestCase, ClearingTwoLevel.TestCase
TestClearing.settings = TestClearingTwoLevel.settings = settings(max_examples=25, stateful_step_count=14, deadline=None)
