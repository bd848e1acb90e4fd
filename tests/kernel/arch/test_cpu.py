"""Routines on the CPU: nested calls, faults inside them, the exception table's exact residues, interrupts."""

from __future__ import annotations

import pytest

from sandbox.kernel.arch.cpu import CALL_DEPTH, RoutineLost
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.inspect.oops import KernelOops
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mmap import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from sandbox.kernel.task.task import Task
from sandbox.machine.memory import Reason
from tests.conftest import MakeSession

AREA, PAGE = 0x50000000, 4096
EFAULT = 14
EDGE = AREA + PAGE
"""The first byte behind the only mapped page."""


class Loaded:
    """A task in its address space, with one page (and nothing around it) at AREA."""

    def __init__(self, session: MakeSession, **config: object) -> None:
        self.session = session("_start: pass", **config)
        self.task: Task = self.session.load()
        self.kernel: Kernel = self.session.kernel
        self.cpu = self.task.cpu
        assert self.task.mm is not None
        self.mm = self.task.mm
        self.kernel.mmu.switch_mm(self.cpu, self.mm)
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        assert self.kernel.mmap.do_mmap(self.task, AREA, PAGE, 3, flags, None, 0) == AREA

    def peek(self, address: int, size: int) -> bytes:
        return self.kernel.peek.peek(self.mm, address, size)


@pytest.fixture
def loaded(session: MakeSession, paging: str) -> Loaded:
    return Loaded(session, paging=paging)


SIZES = (1, 2, 3, 4, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200)
PATTERN = bytes(range(1, 256))


@pytest.mark.parametrize("size", SIZES)
def test_copy_to_user_residue_at_every_offset(loaded: Loaded, size: int) -> None:
    """What fits before the edge is stored, to the byte; the rest is the residue (SDM: REP stops at the element)."""
    data = PATTERN[:size]
    for fits in range(size + 1):
        loaded.kernel.uaccess.copy_to_user(loaded.task, EDGE - 256, bytes(256))
        assert loaded.kernel.uaccess.copy_to_user(loaded.task, EDGE - fits, data) == size - fits
        assert loaded.peek(EDGE - 256, 256) == (bytes(256 - fits) + data[:fits])


@pytest.mark.parametrize("size", SIZES)
def test_copy_from_user_residue_at_every_offset(loaded: Loaded, size: int) -> None:
    assert loaded.kernel.uaccess.copy_to_user(loaded.task, EDGE - 255, PATTERN) == 0
    for fits in range(size + 1):
        found, left = loaded.kernel.uaccess.copy_from_user(loaded.task, EDGE - fits, size)
        assert (found, left) == (PATTERN[255 - fits :], size - fits)


@pytest.mark.parametrize("size", SIZES)
def test_clear_user_residue_at_every_offset(loaded: Loaded, size: int) -> None:
    for fits in range(size + 1):
        loaded.kernel.uaccess.copy_to_user(loaded.task, EDGE - 255, PATTERN)
        assert loaded.cpu.call(loaded.kernel.routines.clear_user, ecx=size, edi=EDGE - fits) == size - fits
        assert loaded.peek(EDGE - 255, 255) == PATTERN[: 255 - fits] + bytes(fits)


def test_strings_at_every_offset(loaded: Loaded) -> None:
    """A NUL before the edge ends the string; without one the walk into the hole is EFAULT."""
    kernel, task = loaded.kernel, loaded.task
    kernel.uaccess.copy_to_user(task, EDGE - 64, b"a" * 64)
    strncpy = kernel.routines.strncpy_from_user
    for before in range(1, 65):
        got = loaded.cpu.call(strncpy, ecx=4096, esi=EDGE - before, edi=task.scratch)
        assert got == -EFAULT & 0xFFFFFFFF
        limited = loaded.cpu.call(strncpy, ecx=before, esi=EDGE - before, edi=task.scratch)
        assert limited == before
    kernel.uaccess.copy_to_user(task, EDGE - 1, b"\0")
    for before in range(1, 65):
        assert kernel.uaccess.get_string(task, EDGE - before) == b"a" * (before - 1)
    assert loaded.cpu.call(strncpy, ecx=0, esi=EDGE, edi=task.scratch) == 0


def test_single_words(loaded: Loaded) -> None:
    cpu, routines = loaded.cpu, loaded.kernel.routines
    assert cpu.call(routines.put_user_4, eax=0x12345678, edi=EDGE - 4) == 0
    assert cpu.call(routines.get_user_4, edi=EDGE - 4) == 0x12345678
    for inside in range(4):
        assert cpu.call(routines.put_user_4, eax=1, edi=EDGE - inside) == -EFAULT & 0xFFFFFFFF
        assert cpu.call(routines.get_user_4, edi=EDGE - inside) == 0
    assert cpu.kstack.depth == 0


def test_read_only_user_page(loaded: Loaded) -> None:
    """CR0.WP: the kernel's store to a read-only page faults as the program's would."""
    kernel, task = loaded.kernel, loaded.task
    kernel.uaccess.copy_to_user(task, AREA, b"before")
    kernel.mmap.do_mprotect(task, AREA, PAGE, 1)
    assert kernel.uaccess.copy_to_user(task, AREA, b"after!") == 6
    assert loaded.peek(AREA, 6) == b"before"
    assert kernel.uaccess.copy_from_user(task, AREA, 6) == (b"before", 0)


def test_kernel_addresses_are_refused(loaded: Loaded) -> None:
    kernel, task = loaded.kernel, loaded.task
    assert kernel.uaccess.copy_to_user(task, PAGE_OFFSET, b"x") == 1
    assert kernel.uaccess.copy_to_user(task, PAGE_OFFSET - 1, b"xy") == 2
    assert kernel.uaccess.copy_from_user(task, 0xFFFFFFFF, 2) == (b"", 2)
    assert kernel.uaccess.copy_from_user(task, task.scratch, 4) == (b"", 4)


def test_copy_without_fixup_is_an_oops(session: MakeSession) -> None:
    loaded = Loaded(session, switches=frozenset({"no-fixup"}))
    with pytest.raises(KernelOops) as caught:
        loaded.kernel.uaccess.copy_to_user(loaded.task, EDGE, b"x")
    assert "copy_user" in caught.value.summary
    assert f"{EDGE:#010x}" in caught.value.summary
    assert loaded.cpu.kstack.depth == 0


def test_bad_kernel_address_is_an_oops(loaded: Loaded) -> None:
    with pytest.raises(KernelOops) as caught:
        loaded.cpu.call(loaded.kernel.routines.clear_page, edi=loaded.kernel.layout.vmalloc.start)
    assert "clear_page" in caught.value.summary
    assert loaded.cpu.kstack.depth == 0
    assert loaded.cpu.call(loaded.kernel.routines.get_user_4, edi=AREA) == 0


def test_calls_from_inside_a_fault_nest(loaded: Loaded) -> None:
    """copy_user faults; its fault clears a page by a second routine below the first one's stack pointer."""
    assert loaded.kernel.uaccess.copy_to_user(loaded.task, AREA, b"hello") == 0
    assert len(loaded.cpu.kstack.contexts) >= 2
    outer, inner = (context.esp for context in loaded.cpu.kstack.contexts[:2])
    assert inner < outer <= loaded.cpu.kstack.stack_top
    assert loaded.peek(AREA, 5) == b"hello"


def test_endless_nesting_is_noticed(loaded: Loaded) -> None:
    cpu, kernel = loaded.cpu, loaded.kernel
    real = cpu.traps.kernel_trap
    seen = []

    def again(*given: object) -> None:
        seen.append(cpu.kstack.depth)
        cpu.call(kernel.routines.get_user_4, edi=EDGE)
        real(*given)  # type: ignore[arg-type]

    cpu.traps.kernel_trap = again  # type: ignore[method-assign]
    with pytest.raises(RoutineLost):
        cpu.call(kernel.routines.get_user_4, edi=EDGE)
    assert seen == list(range(1, CALL_DEPTH + 1))
    assert cpu.kstack.depth == 0


def test_a_routine_may_fall_through_as_often_as_it_wants(loaded: Loaded) -> None:
    """``strncpy_from_user`` passes a JZ that is not taken for each byte; 100,000 are more than a run's fuel."""
    size = 100_000
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    assert loaded.kernel.mmap.do_mmap(loaded.task, 0x60000000, 1 << 17, 3, flags, None, 0) == 0x60000000
    assert loaded.kernel.uaccess.copy_to_user(loaded.task, 0x60000000, b"n" * size + b"\0") == 0
    buffer = loaded.kernel.vmalloc.vmalloc(1 << 17)
    routine = loaded.kernel.routines.strncpy_from_user
    assert loaded.cpu.call(routine, ecx=1 << 17, esi=0x60000000, edi=buffer) == size


def test_a_routine_that_never_returns_is_lost(loaded: Loaded) -> None:
    """Each byte that REP STOSB stores is a block, and these are more than any routine may run."""
    buffer = loaded.kernel.vmalloc.vmalloc(5 << 20)
    with pytest.raises(RoutineLost, match="4194304 blocks"):
        loaded.cpu.call(loaded.kernel.routines.clear_user, ecx=5 << 20, edi=buffer)
    assert loaded.cpu.kstack.depth == 0


def test_interrupt_leaves_the_other_cpu_as_it_was(session: MakeSession) -> None:
    kernel = session("_start: pass", cpus=2).kernel
    other = kernel.cpus[1]
    context = other.vcpu.context
    before = bytes(context.data)
    kernel.smp.call_on((other,), lambda cpu: cpu.call(kernel.routines.invlpg, eax=0x1000) and None)
    assert other.vcpu.context is context
    assert bytes(context.data) == before
    assert (other.ipis, other.ipi.depth, other.idle.depth) == (1, 0, 0)
    assert kernel.cpus[0].ipis == 0


def test_store_reaches_memory_in_windows(loaded: Loaded) -> None:
    pfn = loaded.kernel.page_alloc.alloc_page()
    loaded.kernel.memory.host_fill(pfn << 12, PAGE, 0xEE, Reason.IMAGE)
    loaded.cpu.store(PAGE_OFFSET + (pfn << 12), PATTERN)
    assert loaded.kernel.memory.read(pfn << 12, 257) == PATTERN + b"\0\xee"
