"""Copies to and from a program's memory while its areas come, go, change and are shared: every byte, every residue."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandbox.image.build import IMAGES
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.mmap import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from sandbox.kernel.module.useraccess import VERIFY_READ, VERIFY_WRITE
from sandbox.kernel.process.fork import dup_mm
from sandbox.runner.run import Session
from sandbox.runner.target import resolve
from tests.kernel.mm.machines import current_task

AREA, PAGE, PAGES, BUFFER = 0x50000000, 4096, 6, 3 * 4096
PROGRAM = resolve(IMAGES / "cow-fork")
RANGE = {"start": st.integers(0, PAGES * PAGE - 1), "size": st.integers(0, BUFFER), "seed": st.integers(0, 255)}
_FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


class Copies(RuleBasedStateMachine):
    """``prot`` and ``data`` are the model: of each page, what a program may do (None: not there), and its bytes."""

    paging = "pae"

    def __init__(self) -> None:
        super().__init__()
        self.session = Session("t", PROGRAM.data, [], KernelConfig(ram=8 << 20, paging=self.paging))
        self.task, self.mm = current_task(self.session)
        self.kernel, self.cpu = self.session.kernel, self.task.cpu
        self.buffer = self.kernel.vmalloc.vmalloc(BUFFER)
        self.prot: list[int | None] = [None] * PAGES
        self.data = [bytes(PAGE)] * PAGES
        self.children: list[tuple[Mm, list[bytes]]] = []

    def teardown(self) -> None:
        self.session.close()

    def call(self, name: str, *arguments: int) -> int:
        return self.cpu.call_c(self.session.system.gate.symbols[name], *arguments)

    def reach(self, start: int, size: int, need: int) -> int:
        """Bytes from ``start`` on that may be accessed."""
        at = start
        while at < start + size and at < PAGES * PAGE and (self.prot[at // PAGE] or 0) & need:
            at = at // PAGE * PAGE + PAGE
        return max(0, min(at, start + size) - start)

    def expect(self, start: int, data: bytes) -> None:
        for offset, byte in enumerate(data):
            page, at = divmod(start + offset, PAGE)
            self.data[page] = self.data[page][:at] + bytes((byte,)) + self.data[page][at + 1 :]

    @rule(first=st.integers(0, PAGES - 1), count=st.integers(1, 4), prot=st.sampled_from([1, 3]))
    def map(self, first: int, count: int, prot: int) -> None:
        count = min(count, PAGES - first)
        self.kernel.mmap.do_mmap(self.task, AREA + first * PAGE, count * PAGE, prot, _FLAGS, None, 0)
        for page in range(first, first + count):
            self.prot[page], self.data[page] = prot, bytes(PAGE)

    @rule(first=st.integers(0, PAGES - 1), count=st.integers(1, 3))
    def unmap(self, first: int, count: int) -> None:
        count = min(count, PAGES - first)
        self.kernel.mmap.do_munmap(self.task, AREA + first * PAGE, count * PAGE)
        for page in range(first, first + count):
            self.prot[page], self.data[page] = None, bytes(PAGE)

    @rule(page=st.integers(0, PAGES - 1), prot=st.sampled_from([1, 3]))
    def protect(self, page: int, prot: int) -> None:
        if self.prot[page] is not None:
            self.kernel.mmap.do_mprotect(self.task, AREA + page * PAGE, PAGE, prot)
            self.prot[page] = prot

    @precondition(lambda self: len(self.children) < 3)
    @rule()
    def fork(self) -> None:
        self.children.append((dup_mm(self.kernel, self.cpu, self.mm), list(self.data)))

    @rule(**RANGE)
    def to_user(self, start: int, size: int, seed: int) -> None:
        self.call("memset", self.buffer, seed, BUFFER)
        done = self.reach(start, size, 2)
        assert self.call("copy_to_user", AREA + start, self.buffer, size) == size - done
        self.expect(start, bytes((seed,)) * done)

    @rule(**RANGE)
    def clear(self, start: int, size: int, seed: int) -> None:
        done = self.reach(start, size, 2)
        assert self.call("clear_user", AREA + start, size) == size - done
        self.expect(start, bytes(done))

    @rule(**RANGE)
    def from_user(self, start: int, size: int, seed: int) -> None:
        self.call("memset", self.buffer, seed, BUFFER)
        done = self.reach(start, size, 1)
        assert self.call("copy_from_user", self.buffer, AREA + start, size) == size - done
        wanted = b"".join(self.data)[start : start + done] + bytes(size - done)
        assert self.kernel.peek.peek(None, self.buffer, size) == wanted

    @rule(**RANGE)
    def old_copies_behind_verify_area(self, start: int, size: int, seed: int) -> None:
        may_write = self.call("verify_area", VERIFY_WRITE, AREA + start, size) == 0
        assert may_write == (self.reach(start, size, 2) == size)
        assert (self.call("verify_area", VERIFY_READ, AREA + start, size) == 0) == (self.reach(start, size, 1) == size)
        if may_write:
            self.call("memset", self.buffer, seed, BUFFER)
            self.call("memcpy_tofs", AREA + start, self.buffer, size)
            self.expect(start, bytes((seed,)) * size)

    @invariant()
    def nobody_else_sees_it(self) -> None:
        for child, data in [*self.children, (self.mm, self.data)]:
            for page in range(PAGES):
                seen = self.kernel.peek.peek(child, AREA + page * PAGE, PAGE)
                assert not seen or seen == data[page]


class CopiesTwoLevel(Copies):
    paging = "legacy"


TestCopies, TestCopiesTwoLevel = Copies.TestCase, CopiesTwoLevel.TestCase
TestCopies.settings = TestCopiesTwoLevel.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
