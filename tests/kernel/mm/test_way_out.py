"""Pages that are filled on the way back to ring 3: one entry of the engine, all else as if they were filled before."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.engine.stubs import native_host
from sandbox.kernel.arch.cpu import CLEAR_PAGE_BLOCKS, COPY_PAGE_BLOCKS, INVLPG_BLOCKS
from sandbox.kernel.base.events import PageAlloc, PageFault, TlbFlush
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.inspect.oops import KernelOops
from sandbox.runner.run import Session
from tests import ram
from tests.conftest import MakeSession

pytestmark = pytest.mark.skipif(not native_host(), reason="the stubs are x86-64 Linux code")
PAGES, PAGE = 40, 4096
MAP = (
    f"mov eax, 192\nxor ebx, ebx\nmov ecx, {PAGES * PAGE}\nmov edx, 3\nmov esi, 0x22\nmov edi, -1\nxor ebp, ebp\n"
    "int 0x80\n"
)
DIRTY = (
    f"{MAP}mov edi, eax\nmov ebx, eax\nmov ecx, {PAGES * PAGE // 4}\nmov eax, 0xDEADBEEF\nrep stosd\n"
    f"mov ecx, {PAGES * PAGE}\nmov eax, 91\nint 0x80\n"
)
"""Frames come back to the allocator with something in them."""
EXIT = "mov eax, 252\nint 0x80\n"
TOUCH = f"mov edi, [area]\nmov ecx, {PAGES}\n1: mov dword ptr [edi+8], 5\nadd edi, {PAGE}\ndec ecx\njnz 1b\n"


def touching(pages: int) -> str:
    """Write to so many new pages, and say whether anything else is in them."""
    return (
        f"_start: {DIRTY}{MAP}mov edi, eax\nmov esi, eax\nmov ecx, {pages}\n"
        f"1: mov dword ptr [edi+8], 5\nadd edi, {PAGE}\ndec ecx\njnz 1b\n"
        f"xor ebx, ebx\nmov ecx, {pages * PAGE // 4}\n2: add ebx, [esi]\nadd esi, 4\ndec ecx\njnz 2b\n"
        f"sub ebx, {5 * pages}\nsetnz bl\nmovzx ebx, bl\n{EXIT}"
    )


def copying(pages: int, children: int = 1, read_first: bool = False) -> str:
    """Children that write to so many pages of their parent's, look at them, and leave the parent's alone."""
    fill = "mov eax, [edi]" if read_first else "mov dword ptr [edi+8], 5"
    return (
        f".bss\narea: .long 0\nsum: .long 0\n.text\n_start: {DIRTY}{MAP}mov [area], eax\n"
        f"mov edi, eax\nmov ecx, {PAGES}\n1: {fill}\nadd edi, {PAGE}\ndec ecx\njnz 1b\n"
        f"mov ebp, {children}\n3: mov eax, 2\nint 0x80\ntest eax, eax\njnz 4f\n"
        f"mov edi, [area]\nmov ecx, {pages}\n1: mov dword ptr [edi+12], 7\nadd edi, {PAGE}\ndec ecx\njnz 1b\n"
        f"mov esi, [area]\nxor ebx, ebx\nmov ecx, {PAGES * PAGE // 4}\n2: add ebx, [esi]\nadd esi, 4\ndec ecx\njnz 2b\n"
        f"sub ebx, {7 * pages + (0 if read_first else 5 * PAGES)}\nsetnz bl\nmovzx ebx, bl\n{EXIT}"
        "4: mov ebx, -1\nmov ecx, offset sum\nxor edx, edx\nmov eax, 7\nint 0x80\n"
        "cmp dword ptr [sum], 0\njne 5f\ndec ebp\njnz 3b\n"
        f"mov esi, [area]\nxor ebx, ebx\nmov ecx, {PAGES * PAGE // 4}\n2: add ebx, [esi]\nadd esi, 4\ndec ecx\njnz 2b\n"
        f"sub ebx, {0 if read_first else 5 * PAGES}\nsetnz bl\nmovzx ebx, bl\n{EXIT}5: mov ebx, 3\n{EXIT}"
    )


def counted(session: Session) -> list[int]:
    """From now on, of how often Python has called the engine: an entry a call."""
    entries: list[int] = []
    for cpu in session.kernel.machine.cpus:
        enter = cpu._enter

        def entered(pad: int, enter: Any = enter) -> int:
            entries.append(pad)
            return int(enter(pad))

        cpu._enter = entered
    return entries


def told(session: Session) -> dict[str, Any]:
    """What a run came to."""
    result, kernel = session.finish(), session.kernel
    return {
        "status": result.status,
        "error": result.error,
        "clock": kernel.clock.machine,
        "clocks": [cpu.clock for cpu in kernel.machine.cpus],
        "calls": [cpu.calls for cpu in kernel.cpus],
        "stats": kernel.stats,
        "flushes": kernel.tlb.counters,
        "free": kernel.pgdat.free_frames,
        "switches": kernel.sched.switches,
    }


def test_blocks_are_those_of_a_call(session: MakeSession) -> None:
    """What is charged in advance is what the routines add to the clock when they are called."""
    task = session("_start: pass").load()
    cpu, routines, page = task.cpu, task.cpu.routines, PAGE_OFFSET + 300 * PAGE
    for routine, blocks in (
        (routines.clear_page, CLEAR_PAGE_BLOCKS),
        (routines.copy_page, COPY_PAGE_BLOCKS),
        (routines.invlpg, INVLPG_BLOCKS),
    ):
        before = cpu.vcpu.clock
        cpu.call(routine, eax=page, esi=page, edi=page)
        assert cpu.vcpu.clock - before == blocks


@pytest.mark.parametrize("size", [1, 20, 64, 96, 128])
def test_what_a_call_has_to_tell_is_one_routine_and_two_on_the_clock(session: MakeSession, size: int) -> None:
    """``put`` against ``store`` and ``copy_user``, to a kernel address, where nothing faults."""
    made = session("_start: pass")
    task, data = made.load(), bytes(range(1, size + 1))
    cpu, physical = task.cpu, made.kernel.page_alloc.alloc_page() * PAGE
    target, told = PAGE_OFFSET + physical, []
    for action in ("apart", "together"):
        cpu.call(cpu.routines.clear_page, edi=target)
        clock, calls, entries = cpu.vcpu.clock, cpu.calls, counted(made)
        if action == "apart":
            cpu.store(task.scratch, data)
            left = cpu.call(cpu.routines.copy_user, ecx=size, esi=task.scratch, edi=target)
        else:
            left = cpu.put(target, task.scratch, data)
        there = made.kernel.memory.read(physical, PAGE)
        told.append((left, there, cpu.vcpu.clock - clock, cpu.calls - calls))
        assert len(entries) == (2 if action == "apart" else 1)
    assert told[0] == told[1] and told[1][:2] == (0, data.ljust(PAGE, b"\0"))


@pytest.mark.parametrize("text", [touching, copying], ids=["demand-zero", "cow"])
def test_a_fault_enters_the_engine_once(session: MakeSession, paging: str, text: Any) -> None:
    """The difference between two runs is their faults; a second run of the engine for each would double it.

    On a busy host a run comes back now and then to look at the time: the fewest of some count.
    """

    def entries(pages: int) -> int:
        made = session(text(pages), paging=paging)
        made.load()
        seen = counted(made)
        assert made.finish().status == 0
        return len(seen)

    assert min(entries(40) for _ in range(5)) - min(entries(10) for _ in range(5)) == 30


@pytest.mark.parametrize(("cpus", "seed"), [(1, 0), (2, 1), (4, 2), (4, 3)])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(touching(PAGES), id="demand-zero"),
        pytest.param(copying(PAGES, 3), id="cow"),
        pytest.param(copying(PAGES, 3, read_first=True), id="zero page"),
    ],
)
def test_nobody_can_tell(session: MakeSession, paging: str, text: str, cpus: int, seed: int) -> None:
    """Each page filled by a run of its own, and read of: the same clocks, counts and flushes, and events."""
    config = {"paging": paging, "cpus": cpus, "seed": seed, "turn": 60, "quantum": 10_000}
    plain, read, apart = (session(text, **config) for _ in range(3))
    seen: tuple[list[Any], list[Any]] = [], []
    for made, events in zip((read, apart), seen, strict=True):
        made.kernel.bus.subscribe(events.append, PageFault, PageAlloc, TlbFlush)
    apart.system.traps._ways_out = (None,) * cpus
    fast, slow = told(plain), told(apart)
    assert (fast["status"], fast["error"]) == (0, "")
    assert fast == slow == told(read)
    assert seen[0] == seen[1]
    assert sum(isinstance(event, PageFault) for event in seen[0]) >= PAGES


@pytest.mark.parametrize("text", [touching(PAGES), copying(PAGES, 2)], ids=["demand-zero", "cow"])
def test_the_shadow_tlb_finds_nothing_and_changes_nothing(session: MakeSession, paging: str, text: str) -> None:
    """Under it too pages are cleared on the way; it is told of every entry that the door stores."""
    plain, watched = session(text, paging=paging), session(text, paging=paging, sanitize=frozenset({"tlb"}))
    assert told(plain) == told(watched)
    assert watched.reports() == []


def test_memory_is_the_same(session: MakeSession) -> None:
    """All of RAM, to the byte."""
    text, digests = touching(PAGES), []
    for reads in (False, True):
        made = session(text)
        if reads:
            made.system.traps._ways_out = (None,)
        made.finish()
        digests.append(ram.digest(made.kernel.memory))
    assert digests[0] == digests[1]


RACE = (
    ".bss\n.align 16\nat: .long 0\nbad: .long 0\ndone: .long 0\nended: .long 0\n.space 4096\nstack:\n.text\n"
    f"_start: {DIRTY}{MAP}mov esi, eax\nmov eax, 120\nmov ebx, 0x50F00\nmov ecx, offset stack\nint 0x80\n"
    "test eax, eax\njz 5f\n"
    f"mov edi, esi\nmov ecx, {PAGES}\n1: mov [at], edi\nmov dword ptr [edi], 1\nmov edx, 9\n2: dec edx\njnz 2b\n"
    f"add edi, {PAGE}\ndec ecx\njnz 1b\nmov dword ptr [done], 1\n3: cmp dword ptr [ended], 0\nje 3b\n"
    f"mov ebx, [bad]\ntest ebx, ebx\nsetnz bl\nmovzx ebx, bl\n{EXIT}"
    "5: mov eax, [at]\ntest eax, eax\njz 6f\nmov ecx, [eax+4]\nor [bad], ecx\n6: cmp dword ptr [done], 0\nje 5b\n"
    "mov dword ptr [ended], 1\nmov eax, 1\nxor ebx, ebx\nint 0x80\n"
)
"""One thread writes to new pages; another reads the word behind each as soon as it can."""


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cpus", [2, 4])
def test_no_thread_sees_what_was_in_the_frame(session: MakeSession, paging: str, cpus: int, seed: int) -> None:
    """The entry of a new page is there before its zeros: nobody may come between."""
    made = session(RACE, paging=paging, cpus=cpus, seed=seed, turn=6, quantum=10_000)
    result = made.finish()
    assert (result.status, result.error) == (0, "")
    assert made.kernel.stats.faults["demand-zero"] >= PAGES // 2


def test_a_fault_on_the_way_is_an_oops_in_its_routine(session: MakeSession) -> None:
    made = session("_start: pass")
    cpu = made.load().cpu
    routines = cpu.routines
    cpu.on_way_out(routines.call_stub, CLEAR_PAGE_BLOCKS, 1, routines.clear_page, 0, 0xFFFF0000)
    with pytest.raises(KernelOops, match=r"page fault at 0xffff0000 \(kernel write not-present\), in clear_page"):
        made.finish()


def test_a_limit_finds_it_done(session: MakeSession) -> None:
    """The page that the last fault brought in is filled in the report's machine too."""
    made = session(f"_start: {DIRTY}{MAP}mov dword ptr [eax+8], 5\n1: jmp 1b\n", block_limit=100_000)
    made.load()
    cpu = made.kernel.cpus[0]
    made.finish()
    assert cpu.way_out is None and not cpu.replaced


def test_source_and_entry_stand_until_the_copy_runs(session: MakeSession, paging: str) -> None:
    """When the engine is entered the old frame has its user and the entry names it; behind that it names the copy."""
    made = session(copying(PAGES), paging=paging)
    made.load()
    kernel, cpu, seen = made.kernel, made.kernel.cpus[0], []
    vcpu, enter = cpu.vcpu, cpu.vcpu._enter

    def entered(pad: int) -> int:
        old, way = cpu.replaced, cpu.way_out
        if not old or way is None:
            return enter(pad)
        page, pgd = way.esi & 0xFFFFFFFF, cpu.active_mm.pgd  # type: ignore[union-attr]
        before = kernel.tables.pte_pfn(kernel.tables.lookup_pte(pgd, page)), kernel.pgdat.memmap.count(old)
        result = enter(pad)
        after = kernel.tables.pte_pfn(kernel.tables.lookup_pte(pgd, page)), kernel.pgdat.memmap.count(old)
        seen.append((before[0] == old, before[1], after[0] == old, after[1] == before[1]))
        return result

    vcpu._enter = vcpu._entered = entered
    assert made.finish().status == 0
    assert len(seen) >= PAGES
    assert all(names and count and not named and same for names, count, named, same in seen)


def test_the_old_frame_is_let_go_behind_the_flush(session: MakeSession) -> None:
    """While a copy is on the way out, its source is held; the next entry has it, or whoever asks first."""
    made = session("_start: pass")
    cpu = made.load().cpu
    kernel = made.kernel
    old, new = kernel.page_alloc.alloc_page(), kernel.page_alloc.alloc_page()
    routines, base = cpu.routines, PAGE_OFFSET
    cpu.on_way_out(routines.call_stub, COPY_PAGE_BLOCKS, 1, routines.copy_page, base + old * PAGE, base + new * PAGE)
    cpu.replaced = old
    assert kernel.pgdat.memmap.count(old) == 1
    cpu.call(routines.invlpg, eax=base)
    assert kernel.pgdat.memmap.count(old) == 0 and cpu.way_out is None
