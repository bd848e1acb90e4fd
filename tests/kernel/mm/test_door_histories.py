"""The same random histories as ``test_accounting``, with a second CPU that comes in between the stores of each step.

At a race point, and while a sender waits for a shootdown, CPU 1 does something of its own: it writes in another address
space, reads in this one, lets reclaim run, ends a process, or answers its interrupt late.  After each step counts,
``rss`` and tables must agree with an independent scan, and every process must see what it wrote.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from sandbox.kernel.base.races import SeedSchedule
from sandbox.kernel.mm.vma import PROT_READ, PROT_WRITE
from tests.campaign import part
from tests.kernel.mm.test_accounting import AREA, PAGE, PAGES, History, elf

__all__ = ["elf"]
MOST = 40
"""Times that somebody comes in, in one history."""


class Blocked(Exception):
    """Nobody but the flow that stands can end this wait."""


class Interrupted(History):
    """``came`` counts by what was done in between."""

    came: dict[str, int]
    totals: ClassVar[dict[str, int]] = {}

    @initialize(seed=st.integers(0, 1 << 30))
    def let_others_in(self, seed: int) -> None:
        kernel = self.kernel
        self.random, self.busy, self.left = random.Random(seed), False, MOST
        self.came = {}
        races = kernel.races
        races._schedule, races.active = SeedSchedule(seed), True
        races.stand = lambda name, times: self.come_in(name)
        kernel.smp.patience = self.wait
        kernel.sched.schedule = self.sleep  # type: ignore[method-assign]

    @rule(which=st.integers(0, 9), page=st.integers(0, PAGES - 1), value=st.integers(1, 1 << 30))
    def break_sharing(self, which: int, page: int, value: int) -> None:
        """A write to a page that a child has too: by chance alone too few are copied."""
        number = which % len(self.spaces)
        self.map(number, page, 1, PROT_READ | PROT_WRITE, False)
        self.write(number, page, value, 0)
        if len(self.spaces) < 4:
            self.fork(number)
        self.write(number, page, value + 1, 0)

    def sleep(self, *_: object) -> None:
        """Nobody is a task here: who comes in upon a page that is being read in gives up."""
        raise Blocked

    def wait(self) -> bool:
        """The sender waits: CPU 1 goes on a little before it answers, or not.

        Who came in and has to wait for the step that it came into gives up: that can only go on behind it.
        """
        if not any(cpu.pending_ipis for cpu in self.kernel.cpus):
            raise Blocked
        if not self.busy and self.random.randrange(2):
            self.come_in("shootdown")
        for cpu in self.kernel.cpus:
            self.kernel.smp.take_ipis(cpu)
        return True

    def come_in(self, where: str) -> None:
        if self.busy or not self.left or not self.spaces:
            return
        self.busy, self.left = True, self.left - 1
        kernel, this_cpu = self.kernel, self.kernel.smp.this_cpu
        what = self.random.choice(["write", "read", "shrink", "end", "nothing"])
        kernel.smp.this_cpu = kernel.cpus[1]
        try:
            with suppress(Blocked):
                getattr(self, f"come_{what}")()
        finally:
            kernel.smp.this_cpu = this_cpu
            self.busy = False
        self.came[where] = self.came.get(where, 0) + 1
        Interrupted.totals[where] = Interrupted.totals.get(where, 0) + 1

    def come_nothing(self) -> None:
        """CPU 1 is idle."""

    def teardown(self) -> None:
        self.left = 0
        super().teardown()

    def other(self) -> int | None:
        """A space that the present step is not about."""
        others = [number for number, mm in enumerate(self.spaces) if mm is not self.task.mm]
        return self.random.choice(others) if others else None

    def come_write(self) -> None:
        number = self.other()
        if number is None:
            return
        mm, page, value = self.spaces[number], self.random.randrange(PAGES), self.random.randrange(1, 1 << 31)
        address, cpu = AREA + page * PAGE, self.kernel.cpus[1]
        self.kernel.mmu.switch_mm(cpu, mm)
        vma = mm.vmas.find(address)
        allowed = vma is not None and vma.start <= address and bool(vma.prot & PROT_WRITE)
        allowed = allowed and self.models[number].get(page) != -1
        left = cpu.call(self.kernel.routines.put_user_4, eax=value, edi=address)
        assert (left == 0) == allowed
        if allowed:
            self.models[number][page] = value

    def come_read(self) -> None:
        """In the space that is being changed: what is read is what was there or will be, and no business of ours."""
        mm = self.task.mm
        assert mm is not None
        cpu = self.kernel.cpus[1]
        self.kernel.mmu.switch_mm(cpu, mm)
        cpu.call(self.kernel.routines.get_user_4, edi=AREA + self.random.randrange(PAGES) * PAGE)

    def come_shrink(self) -> None:
        self.kernel.pagecache.shrink_mmap(2)

    def come_end(self) -> None:
        """The last space, so that the numbers of the others stay, which the present step has looked up."""
        mm = self.spaces[-1]
        if len(self.spaces) > 1 and mm is not self.task.mm and not self.random.randrange(4):
            self.spaces.pop()
            self.models.pop()
            self.kernel.mmu.mmput(self.kernel.cpus[1], mm)


@pytest.mark.slow
@pytest.mark.parametrize("count", part((14, 40), 1))
@pytest.mark.parametrize("paging", ["pae", "legacy"])
def test_histories_with_others_in_between(elf: bytes, paging: str, count: int) -> None:
    Interrupted.totals = {}
    kind = type("Interrupted", (Interrupted,), {"elf": elf, "paging": paging})
    run_state_machine_as_test(
        kind, settings=settings(max_examples=count, stateful_step_count=40, deadline=None, derandomize=True)
    )
    assert sum(Interrupted.totals.values()) > 60
    expected = {"install", "remove", "protect", "flush", "release", "replace", "shootdown"}
    assert expected | ({"set_pte"} if paging == "pae" else set()) <= Interrupted.totals.keys()
