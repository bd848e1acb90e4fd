"""The engine's twenty known traps, by number: that the stock way falls into each, and that a Cpu does not.

The numbers are those of the page on the engine in the documentation.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import unicorn
from unicorn import unicorn_const as uc
from unicorn import x86_const as x86

from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import BlocksSpent, BreakpointHit, BusError, Halt, PortDenied, Stepped, Trap
from sandbox.x86.paging import NX, RW, US, A, G, P
from tests.engine.board import CODE, DATA, GDT, HOLE, PAGES, STACK, Board, assembled
from tests.engine.naive import Naive
from tests.patience import PATIENCE, busy, running

MISSING = DATA + PAGES * 4096


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def naive(board: Board) -> Naive:
    return Naive(board)


def place(board: Board, text: str, address: int = CODE) -> None:
    """Code for the stock binding, which looks at memory when it runs."""
    board.poke(address, assembled(text, address))


# -- 1: the exception in flight --------------------------------------------------------------------------------------


def test_1_naive_second_fault_is_a_double_fault_and_the_third_is_silent(board: Board, naive: Naive) -> None:
    place(board, f"mov eax, [{MISSING:#x}]")
    for _ in range(3):
        naive.run()
    assert naive.vectors == [14, 8]


def test_1_ten_thousand_faults_are_like_the_first(board: Board) -> None:
    board.load(f"again: mov [{MISSING:#x}], eax\ninc eax\njmp again")
    first = board.cpu.run(100)
    assert first == Trap(CODE, 14, 6, MISSING, 3, False)
    for _ in range(10_000):
        assert board.cpu.run(100) == first
    before = board.cpu.clock
    assert board.cpu.run(100) == first
    assert board.cpu.clock == before + 1


@pytest.mark.parametrize("second", ["div edx", "hlt", f"mov eax, [{MISSING:#x}]", "mov ax, 0x11\nmov ds, ax"])
def test_1_fault_after_page_fault_is_itself(board: Board, second: str) -> None:
    """A contributory exception after a page fault that was handled is not a double fault (SDM 3A, table 6-5)."""
    board.load(f"mov eax, [{MISSING:#x}]\n{second}")
    board.cpu.run(10)
    vectors = []
    for _ in range(3):
        board.cpu.context.eip = CODE + 5
        board.cpu.context.edx = 0
        vectors.append(board.cpu.run(10).vector)  # type: ignore[attr-defined]
    assert len(set(vectors)) == 1
    assert vectors[0] in (0, 13, 14)


# -- 2: CR2 and the error code ---------------------------------------------------------------------------------------


def test_2_naive_cr2_is_the_until_address(board: Board, naive: Naive) -> None:
    place(board, f"mov eax, [{MISSING:#x}]")
    naive.run(until=0x900000)
    assert naive.vectors == [14]
    assert naive.read("cr2") != MISSING


def test_2_cr2_and_error_code_are_the_faults(board: Board) -> None:
    assert board.run(f"mov eax, [{MISSING + 123:#x}]") == Trap(CODE, 14, 4, MISSING + 123, 3, False)
    assert board.cpu.context.cr2 == MISSING + 123
    assert board.run("int 0x80") == Trap(CODE + 2, 0x80, 0, 0, 3, True)
    assert board.run("mov ax, 0x10\nmov ds, ax") == Trap(CODE + 4, 13, 0x10, 0, 3, False)


# -- 3: page-crossing accesses ---------------------------------------------------------------------------------------


def test_3_naive_crossing_read_silences_memory_hooks(board: Board, naive: Naive) -> None:
    """A fault handled inside the hook, as is fastest: then no memory hook fires any more."""
    place(board, f"mov eax, [{DATA:#x}]\nmov eax, [{MISSING - 2:#x}]\nmov eax, [{DATA:#x}]\nmov eax, [{DATA:#x}]\nhlt")
    seen: list[int] = []
    naive.uc.hook_add(uc.UC_HOOK_MEM_READ, lambda _u, _k, address, *_: seen.append(address))
    naive.on_interrupt = lambda vector: board.map(MISSING) and None  # type: ignore[func-returns-value]
    naive.run()
    reads_behind_the_fault = seen[2:]
    assert len(reads_behind_the_fault) < 3


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("offset", [1, 2, 3])
def test_3_crossing_read(board: Board, missing: int, offset: int) -> None:
    """CR2 is the first byte that cannot be read (SDM 3A, 6.15): the access's own address, or the second page's."""
    place = DATA + 0x1000 - offset
    board.poke(place, b"\x11\x22\x33\x44")
    entry = board.unmap(DATA + 0x1000 * missing)
    exit_ = board.run(f"mov eax, -1\nmov eax, [{place:#x}]\nint 0x80")
    assert exit_ == Trap(CODE + 5, 14, 4, place if not missing else DATA + 0x1000, 3, False)
    assert board.cpu.context.eax == 0xFFFFFFFF
    board.set_entry(DATA + 0x1000 * missing, entry)
    assert isinstance(board.cpu.run(10), Trap)
    assert board.cpu.context.eax == 0x44332211


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("code", ["mov [{0}], eax", "movdqu [{0}], xmm0", "fstp tbyte ptr [{0}]", "push [{1}]"])
def test_3_crossing_write_does_all_or_nothing(board: Board, missing: int, code: str) -> None:
    place = DATA + 0x1000 - 2
    board.load(code.format(hex(place), hex(DATA + 0x2000)) + "\nint 0x80")
    state = board.cpu.context
    state.eax = 0x55667788
    state.esp = place + 4
    entry = board.unmap(DATA + 0x1000 * missing)
    exit_ = board.cpu.run(10)
    assert exit_ == Trap(CODE, 14, 6, place if not missing else DATA + 0x1000, 3, False)
    assert state.esp == place + 4
    board.set_entry(DATA + 0x1000 * missing, entry)
    assert board.peek(DATA + 0x1000 - 8, 8) == 0 == board.peek(DATA + 0x1000, 16)
    assert board.cpu.run(10).vector == 0x80  # type: ignore[attr-defined]


def test_3_bus_errors_are_seen_after_a_crossing_fault(board: Board) -> None:
    board.map(MISSING + 0x2000, P | RW | US, HOLE)
    board.load(f"mov eax, [{MISSING - 2:#x}]\nmov eax, [{MISSING + 0x2000:#x}]")
    assert board.cpu.run(10) == Trap(CODE, 14, 4, MISSING, 3, False)
    board.map(MISSING)
    assert board.cpu.run(10) == BusError(CODE + 5, HOLE, False, 4)


# -- 4: an instruction that straddles into a missing page ------------------------------------------------------------

EDGE = CODE + 0x1000


def straddling(board: Board, before: str, split: int, instruction: bytes) -> int:
    """Code whose last instruction has ``split`` bytes on a page and the rest on the missing one; its address."""
    lead = assembled(before, EDGE - 64)
    start = EDGE - split - len(lead)
    board.load("nop")
    board.poke(start, assembled(before, start) + instruction)
    board.poke(EDGE + len(instruction) - split, b"\xcd\x80")
    board.unmap(EDGE)
    board.cpu.context.eip = start
    return EDGE - split


def test_4_naive_eip_is_the_blocks_start_and_its_stores_are_missing(board: Board, naive: Naive) -> None:
    at = straddling(board, f"mov dword ptr [{DATA:#x}], 7", 2, assembled("mov eax, 0x12345678"))
    naive.run(board.cpu.context.eip)
    assert naive.vectors == [14]
    assert naive.read("eip") == board.cpu.context.eip != at
    assert board.peek(DATA) == 0


@pytest.mark.parametrize("split", range(5))
def test_4_eip_is_the_instructions_and_what_precedes_has_run_once(board: Board, split: int) -> None:
    at = straddling(board, f"inc dword ptr [{DATA:#x}]\nadd ecx, 3", split, assembled("mov eax, 0x12345678"))
    cpu = board.cpu
    before = cpu.clock
    for _ in range(3):
        assert cpu.run(100) == Trap(at, 14, 4, EDGE, 3, False)
        assert (board.peek(DATA), cpu.context.ecx, cpu.context.eip, cpu.clock - before) == (1, 3, at, 1)
        assert not cpu.context.interrupt_shadow
    board.set_entry(EDGE, board.entry(EDGE) | P)
    assert cpu.run(100).vector == 0x80  # type: ignore[attr-defined]
    assert (board.peek(DATA), cpu.context.ecx, cpu.context.eax) == (1, 3, 0x12345678)
    assert cpu.clock - before == 2


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        (f"mov eax, [{MISSING:#x}]\nnop", 14),
        ("ud2\nnop", 6),
        ("int 0x80\nnop", 0x80),
        ("xor ecx, ecx\ndiv ecx\nnop", 0),
    ],
)
def test_4_an_earlier_cause_comes_first(board: Board, before: str, wanted: int) -> None:
    straddling(board, before, 2, assembled("mov eax, 0x12345678"))
    start = board.cpu.context.eip
    exit_ = board.cpu.run(100)
    assert isinstance(exit_, Trap)
    assert exit_.vector == wanted
    assert exit_.eip < EDGE - 2
    assert exit_.address in (0, MISSING)
    assert exit_.eip >= start
    assert not board.cpu.context.interrupt_shadow


def test_4_blocks_steps_and_breakpoints_on_the_way(board: Board) -> None:
    at = straddling(board, "inc ecx\ninc ecx\ninc ecx", 1, assembled("mov eax, 0x12345678"))
    cpu, start = board.cpu, board.cpu.context.eip
    cpu.set_breakpoint(start + 2)
    assert cpu.run(0) == BlocksSpent(start)
    assert cpu.run(100) == BreakpointHit(start + 2)
    assert cpu.run(100, steps=1) == Stepped(at)
    assert (cpu.context.ecx, cpu.instructions) == (3, 1)
    assert cpu.run(100, steps=1) == Trap(at, 14, 4, EDGE, 3, False)
    assert (cpu.context.ecx, cpu.instructions) == (3, 1)
    cpu.context.eip = start
    assert cpu.run(100, steps=1) == Stepped(start + 1)
    assert cpu.context.ecx == 4


def test_4_page_that_is_not_executable() -> None:
    board = Board(pae=True)
    at = straddling(board, "inc ecx", 3, assembled("mov eax, 0x12345678"))
    board.set_entry(EDGE, board.entry(EDGE) | P | NX)
    assert board.cpu.run(100) == Trap(at, 14, 0x15, EDGE, 3, False)
    assert board.cpu.context.ecx == 1


def test_4_page_that_nobody_answers(board: Board) -> None:
    at = straddling(board, "inc ecx", 3, assembled("mov eax, 0x12345678"))
    board.set_entry(EDGE, HOLE | P | RW | US)
    exit_ = board.cpu.run(100)
    assert isinstance(exit_, BusError)
    assert (exit_.eip, exit_.physical, exit_.write) == (at, HOLE, False)
    assert board.cpu.context.ecx == 1


def test_4_a_block_of_a_whole_page(board: Board) -> None:
    """4,080 instructions run on to a missing page: each once, and the fault is at the page's first byte."""
    board.load("nop")
    board.poke(CODE, b"\x41" * 4096)
    board.unmap(EDGE)
    assert board.cpu.run(100) == Trap(EDGE, 14, 4, EDGE, 3, False)
    assert board.cpu.context.ecx == 4096


# -- 5: stepping over a fault ----------------------------------------------------------------------------------------


def test_5_naive_step_that_faults_makes_no_progress_and_is_counted_twice(board: Board, naive: Naive) -> None:
    place(board, f"mov eax, [{MISSING:#x}]\nnop")
    seen: list[int] = []
    naive.uc.hook_add(uc.UC_HOOK_CODE, lambda _u, address, *_: seen.append(address))
    naive.run(count=1)
    assert naive.read("eip") == CODE
    board.map(MISSING)
    naive.run(count=1)
    assert seen[:2] == [CODE, CODE]


def test_5_step_over_a_fault(board: Board) -> None:
    board.load(f"nop\nmov eax, [{MISSING:#x}]\nnop\nint 0x80")
    cpu = board.cpu
    assert cpu.run(10, steps=1) == Stepped(CODE + 1)
    assert cpu.run(10, steps=1) == Trap(CODE + 1, 14, 4, MISSING, 3, False)
    board.map(MISSING)
    assert cpu.run(10, steps=1) == Stepped(CODE + 6)
    assert cpu.run(10, steps=1) == Stepped(CODE + 7)
    assert cpu.run(10, steps=1) == Trap(CODE + 9, 0x80, 0, 0, 3, True)
    assert cpu.instructions == 5


# -- 6: the privilege level ------------------------------------------------------------------------------------------


def test_6_naive_cs_changes_no_cpl_and_ss_is_refused(board: Board, naive: Naive) -> None:
    naive.uc.reg_write(x86.UC_X86_REG_GDTR, (0, GDT, 0x2F, 0))
    naive.write("cs", 0x1B)
    with pytest.raises(unicorn.UcError):
        naive.write("ss", 0x23)
    place(board, "mov eax, [0x9000]\nmov eax, cr0\nhlt")
    naive.run()
    assert naive.vectors == [], "a supervisor page and CR0 were read: it is still ring 0"


def test_6_segments_change_the_cpl(board: Board) -> None:
    assert board.run("mov eax, [0x9000]") == Trap(CODE, 14, 5, 0x9000, 3, False)
    assert board.run("mov eax, cr0") == Trap(CODE, 13, 0, 0, 3, False)
    assert isinstance(board.run("mov eax, [0x9000]\nmov eax, cr0\nhlt", ring=0), Halt)


def test_6_ring_changes_by_the_guest(board: Board) -> None:
    """IRETD to ring 3 and back by a trap: the state shows the ring of each moment (SDM 3A, 6.12.1)."""
    text = f"push 0x23\npush {STACK + 0x1800:#x}\npush 0x202\npush 0x1b\npush offset user\niretd\nuser: int 0x80"
    exit_ = board.run(text, ring=0)
    assert isinstance(exit_, Trap)
    assert (exit_.vector, exit_.cpl, board.cpu.context.esp) == (0x80, 3, STACK + 0x1800)
    assert board.cpu.context.segment("ss").selector == 0x23


# -- 7: no delivery --------------------------------------------------------------------------------------------------


def test_7_naive_interrupts_go_nowhere_and_gates_are_not_asked(board: Board, naive: Naive) -> None:
    naive.uc.reg_write(x86.UC_X86_REG_IDTR, (0, 0x8000, 0x7FF, 0))
    place(board, "int 0x80\nhlt")
    naive.run()
    assert naive.vectors == [0x80], "though the IDT is empty: hardware raises #GP(0x402)"
    bare = unicorn.Uc(uc.UC_ARCH_X86, uc.UC_MODE_32)
    bare.mem_map(0, 0x1000)
    bare.mem_write(0, b"\xcd\x80")
    with pytest.raises(unicorn.UcError) as caught:
        bare.emu_start(0, 0x100)
    assert caught.value.errno == uc.UC_ERR_EXCEPTION


def test_7_all_that_delivery_needs_is_in_the_trap(board: Board) -> None:
    """The gate, its DPL, the stack switch and the frame are the supervisor's; it gets the state before all of it."""
    board.load("nop\nint 0x21")
    board.cpu.context.set_segment("idtr", 0, 0x8000, 0x7FF, 0)
    esp = board.cpu.context.esp
    assert board.cpu.run(10) == Trap(CODE + 3, 0x21, 0, 0, 3, True)
    state = board.cpu.context
    assert (state.esp, state.cpl, state.segment("idtr").base) == (esp, 3, 0x8000)


# -- 8: ports, limits, debug registers -------------------------------------------------------------------------------


def test_8_naive_in_and_out_need_no_privilege(board: Board) -> None:
    """The stock binding cannot reach ring 3 by registers, so the guest goes there itself."""
    naive = Naive(board)
    naive.uc.reg_write(x86.UC_X86_REG_GDTR, (0, GDT, 0x2F, 0))
    naive.write("ss", 0x10)
    ports: list[int] = []
    naive.uc.hook_add(uc.UC_HOOK_INSN, lambda _u, port, *_: ports.append(port) or 0, aux1=x86.UC_X86_INS_IN)
    place(board, f"push 0x23\npush {STACK + 0x1800:#x}\npush 2\npush 0x1b\npush offset u\niretd\nu: in al, 0x40\nhlt")
    naive.run()
    assert ports == [0x40]
    assert naive.vectors == [13], "the HLT, which is refused: it was ring 3, IOPL 0"


def test_8_in_is_refused(board: Board) -> None:
    ports: list[int] = []
    board.cpu.connect_ports(lambda port, size: ports.append(port) or 0, lambda *_: None)  # type: ignore[func-returns-value]
    assert isinstance(board.run("in al, 0x40\nint 0x80"), PortDenied)
    assert ports == []


def test_8_known_limits_are_not_checked(board: Board) -> None:
    """A departure that is listed: an access above a segment's limit goes through.  Flat segments hide it."""
    board.load(f"mov eax, fs:[{DATA:#x}]\nint 0x80")
    board.cpu.context.set_segment("fs", 0x23, 0, 0xFFF, 0x40F300)
    assert board.cpu.run(10).vector == 0x80  # type: ignore[attr-defined]


def test_8_watchpoints_and_execution_breakpoints_fire(board: Board) -> None:
    board.load(f"mov [{DATA:#x}], eax\nnop\nint 0x80")
    state = board.cpu.context
    state.set_debug_register(0, DATA)
    state.set_debug_register(7, 0xD0001)
    assert board.cpu.run(10) == Trap(CODE + 5, 1, 0, 0, 3, False)
    state.eip = CODE
    state.set_debug_register(0, CODE + 5)
    state.set_debug_register(7, 1)
    assert board.cpu.run(10) == Trap(CODE + 5, 1, 0, 0, 3, False)


# -- 9: what a real TLB would keep -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stock", [True, False])
def test_9_known_global_pages_do_not_survive_a_cr3_load(board: Board, stock: bool) -> None:
    text = f"mov eax, [{DATA:#x}]\nmov ebx, {DATA:#x}\nmov ecx, cr3\nint 0x21\nmov cr3, ecx\nmov edx, [ebx]\nhlt"
    board.set_entry(DATA, board.entry(DATA) | G)
    if stock:
        naive = Naive(board)
        naive.write("cr4", 0x690)
        place(board, text)
        naive.on_interrupt = lambda vector: board.unmap(DATA) and None if vector == 0x21 else naive.uc.emu_stop()
        naive.run()
        assert naive.vectors == [0x21, 14]
        return
    board.load(text, ring=0)
    board.cpu.context.cr4 |= 0x80
    board.cpu.run(10)
    board.set_entry(DATA, 0)
    assert board.cpu.run(10).vector == 14  # type: ignore[attr-defined]


# -- 10: what flushes ------------------------------------------------------------------------------------------------


def test_10_naive_context_restore_keeps_the_tlb(board: Board, naive: Naive) -> None:
    place(board, f"mov eax, [{DATA:#x}]\nhlt")
    saved = naive.uc.context_save()
    naive.run()
    board.set_entry(DATA, 0)
    naive.uc.context_restore(saved)
    naive.uc.ctl_flush_tb()
    naive.run()
    assert naive.vectors == [], "stale"
    naive.write("cr3", naive.read("cr3"))
    naive.run()
    assert naive.vectors == [14]


def test_10_the_tlb_is_emptied_by_flush_tlb_and_by_instructions_alone(board: Board) -> None:
    board.load(f"mov eax, [{DATA:#x}]\nhlt\ninvlpg [{DATA:#x}]\nmov eax, [{DATA:#x}]\nhlt", ring=0)
    cpu = board.cpu
    cpu.run(10)
    board.set_entry(DATA, 0)
    copy = cpu.new_context()
    copy.eip = CODE
    cpu.context = copy
    cpu.drop_all_code()
    assert isinstance(cpu.run(10), Halt), "stale, as on hardware"
    assert cpu.run(10).vector == 14  # type: ignore[attr-defined]
    board.map(DATA)
    copy.eip = CODE
    cpu.run(10)
    board.set_entry(DATA, 0)
    cpu.flush_tlb()
    copy.eip = CODE
    assert cpu.run(10).vector == 14  # type: ignore[attr-defined]


# -- 11: looking through the engine's eyes ---------------------------------------------------------------------------


def test_11_naive_translation_sets_bits_and_cr2(board: Board, naive: Naive) -> None:
    place(board, "hlt")
    naive.run()
    naive.write("cr2", 0x1111)
    native = unicorn.unicorn_py3.unicorn.uclib if hasattr(unicorn, "unicorn_py3") else None
    if native is None:
        pytest.skip("another layout of the stock binding")
    physical = ctypes.c_uint64()
    handle = naive.uc._uch
    assert not board.entry(DATA) & A
    assert native.uc_vmem_translate(handle, ctypes.c_uint64(DATA), 1, ctypes.byref(physical)) == 0
    assert board.entry(DATA) & A, "the look was an access"
    assert native.uc_vmem_translate(handle, ctypes.c_uint64(MISSING), 1, ctypes.byref(physical)) != 0
    assert naive.read("cr2") == MISSING


def test_11_reading_code_leaves_no_trace(board: Board) -> None:
    board.run("nop\nint 0x80")
    board.cpu.context.cr2 = 0x1111
    assert board.cpu.handle.read_code(CODE, 3) == b"\x90\xcd\x80"
    assert board.cpu.handle.read_code(DATA, 4) == bytes(4)
    assert board.cpu.handle.read_code(MISSING, 4) == b""
    assert len(board.cpu.handle.read_code(MISSING - 2, 4)) == 2
    assert not board.entry(DATA) & A
    assert board.cpu.context.cr2 == 0x1111


# -- 12: memory hooks ------------------------------------------------------------------------------------------------


def test_12_naive_memory_hooks_tell_physical_addresses_and_tell_twice(board: Board, naive: Naive) -> None:
    place(board, f"mov eax, [{MISSING - 2:#x}]\nhlt")
    seen: list[int] = []
    naive.uc.hook_add(uc.UC_HOOK_MEM_READ, lambda _u, _k, address, *_: seen.append(address))
    naive.run()
    board.map(MISSING)
    naive.run()
    assert seen == [board.physical(MISSING - 2)] * 2


def test_12_bus_errors_are_physical_by_design_and_faults_linear(board: Board) -> None:
    board.map(DATA, P | RW | US, HOLE)
    exit_ = board.run(f"mov eax, [{DATA + 4:#x}]")
    assert exit_ == BusError(CODE, HOLE + 4, False, 4)


# -- 13: translated code ---------------------------------------------------------------------------------------------

PATCHED = f"mov eax, 1\nint 0x80\n.org 0x100\nmov byte ptr [{CODE + 1:#x}], 2\njmp {CODE:#x}"


def test_13_naive_another_handle_runs_old_code(board: Board, naive: Naive) -> None:
    place(board, "mov eax, 1\nhlt")
    naive.run()
    board.poke(CODE + 1, b"\x02")
    naive.run()
    assert naive.read("eax") == 1, "stale after a store by the host"
    naive.uc.ctl_remove_cache(0x900000, 0x901000)
    naive.write("cr2", 0x1111)
    naive.uc.ctl_remove_cache(CODE, CODE + 16)
    naive.run()
    assert naive.read("eax") == 2


def test_13_own_stores_are_seen_and_drops_do_the_rest(board: Board) -> None:
    second = Board(memory=board.memory, index=1)
    board.load(PATCHED)
    second.load(PATCHED)
    for each in (board, second):
        assert each.cpu.run(10).vector == 0x80  # type: ignore[attr-defined]
        assert each.cpu.context.eax == 1
    board.cpu.context.eip = CODE + 0x100
    board.cpu.run(10)
    assert board.cpu.context.eax == 2
    second.cpu.context.eip = CODE
    second.cpu.run(10)
    assert second.cpu.context.eax == 1, "the other CPU's translation is stale"
    second.cpu.drop_code(CODE, CODE + 16)
    second.cpu.context.eip = CODE
    second.cpu.run(10)
    assert second.cpu.context.eax == 2
    board.poke(CODE + 1, b"\x03")
    board.cpu.drop_all_code()
    board.cpu.context.eip = CODE
    board.cpu.run(10)
    assert board.cpu.context.eax == 3


ALIAS = DATA + 0x3000
TWICE = f"""
        call {CODE + 0x1000:#x}
        mov esi, eax
        mov byte ptr [{ALIAS + 0x800:#x}], 0x55
        mov dword ptr [{ALIAS + 1:#x}], 2
        call {CODE + 0x1000:#x}
        int 0x80
"""


def test_13_naive_store_through_an_alias_that_is_not_executable_is_missed() -> None:
    """A second mapping of a code page, writable and NX, as a compiler with W^X has it: the second store is not seen.

    In a process of its own, because the stubs repair it for every handle of a process.
    """
    program = """
from sandbox.x86.paging import NX, RW, US, P
from tests.engine.board import CODE, Memory, assembled
from tests.engine.naive import Naive
from tests.engine.test_traps import ALIAS, TWICE
memory = Memory(pae=True)
naive = Naive(memory)
memory.map(ALIAS, P | RW | US | NX, memory.physical(CODE + 0x1000))
memory.poke(CODE + 0x1000, b"\\xb8\\x01\\x00\\x00\\x00\\xc3")
memory.poke(CODE, assembled(TWICE))
naive.run()
print(naive.read("esi"), naive.read("eax"))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    seen = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert seen.stdout == "1 1\n", seen.stderr


def test_13_store_through_an_alias_that_is_not_executable() -> None:
    board = Board(pae=True)
    board.map(ALIAS, P | RW | US | NX, board.physical(CODE + 0x1000))
    board.poke(CODE + 0x1000, b"\xb8\x01\x00\x00\x00\xc3")
    board.run(TWICE)
    assert (board.cpu.context.esi, board.cpu.context.eax) == (1, 2)


def test_13_a_page_written_run_and_written_again() -> None:
    """Writable and executable in turn: every generation of code is the one that runs."""
    board = Board(pae=True)
    page = CODE + 0x1000
    frame = board.physical(page)
    board.load(
        f"mov ecx, {page:#x}\nfill: mov byte ptr [ecx], 0xb8\nmov [ecx+1], edx\nmov byte ptr [ecx+5], 0xc3\n"
        f"add ecx, 16\ncmp ecx, {page + 0x1000:#x}\njb fill\nint 0x80\n.org 0x100\ncall ebx\nint 0x80"
    )
    state = board.cpu.context
    for generation in range(1, 6):
        board.set_entry(page, frame | P | RW | US | NX)
        board.cpu.flush_tlb()
        state.eip, state.edx = CODE, generation
        assert board.cpu.run(10_000).vector == 0x80  # type: ignore[attr-defined]
        board.set_entry(page, frame | P | US)
        board.cpu.flush_tlb()
        for function in (0, 0x10, 0x800, 0xFF0):
            state.eip, state.ebx = CODE + 0x100, page + function
            assert board.cpu.run(10).vector == 0x80  # type: ignore[attr-defined]
            assert state.eax == generation, (generation, function)


# -- 14: the time-stamp counter --------------------------------------------------------------------------------------


def test_14_naive_rdtsc_is_host_time(board: Board, naive: Naive) -> None:
    place(board, "rdtsc\nhlt")
    with pytest.raises((unicorn.UcError, NotImplementedError)):
        naive.uc.hook_add(uc.UC_HOOK_INSN, lambda *_: 1, aux1=x86.UC_X86_INS_RDTSC)
    stamps = set()
    for _ in range(3):
        naive.run()
        stamps.add(naive.read("eax"))
    assert len(stamps) == 3


def test_14_rdtsc_is_the_machines_time() -> None:
    stamps = set()
    for _ in range(3):
        board = Board()
        board.run("mov ecx, 1000\n1: loop 1b\nrdtsc\nint 0x80")
        stamps.add((board.cpu.context.eax, board.cpu.context.edx))
    assert stamps == {(1000, 0)}


# -- 15: limits in time ----------------------------------------------------------------------------------------------


def test_15_naive_interrupt_key_does_not_reach_a_run() -> None:
    program = (
        "import unicorn\nu = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)\nu.mem_map(0, 4096)\n"
        "u.mem_write(0, b'\\xeb\\xfe')\nprint('go', flush=True)\nu.emu_start(0, 64)\n"
    )
    assert not _ends_by_the_key(program, 0.4)


def test_15_interrupt_key_reaches_a_run_in_slices() -> None:
    program = (
        "from tests.engine.board import Board\nb = Board()\nb.load('1: jmp 1b')\nprint('go', flush=True)\n"
        "while True: b.cpu.run(100_000)\n"
    )
    assert _ends_by_the_key(program, PATIENCE)


_HEED = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""A shell's background job starts with SIGINT ignored."""


def _ends_by_the_key(program: str, patience: float) -> bool:
    """A process that computes ends after SIGINT; False if it outlives ``patience``, in seconds."""
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    with running(
        [sys.executable, "-c", _HEED + program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        busy(child.pid, 0.1)
        child.send_signal(signal.SIGINT)
        try:
            child.wait(patience)
            return True
        except subprocess.TimeoutExpired:
            return False


# -- 16: addresses that nobody answers -------------------------------------------------------------------------------


def test_16_naive_hole_is_an_error_with_no_address(board: Board, naive: Naive) -> None:
    board.map(DATA, P | RW | US, HOLE)
    place(board, f"nop\nmov eax, [{DATA:#x}]")
    with pytest.raises(unicorn.UcError) as caught:
        naive.run()
    assert caught.value.errno == uc.UC_ERR_READ_UNMAPPED
    assert "0x" not in str(caught.value)


def test_16_hole_is_a_bus_error_and_a_table_there_is_empty(board: Board) -> None:
    board.map(DATA, P | RW | US, HOLE)
    assert board.run(f"nop\nmov eax, [{DATA:#x}]") == BusError(CODE + 1, HOLE, False, 4)
    struct.pack_into("<I", board.memory, 0x1000 + 8, HOLE | 7)
    assert board.run("mov eax, [0x800000]") == Trap(CODE, 14, 4, 0x800000, 3, False)


# -- 17: the size of a handle ----------------------------------------------------------------------------------------


def test_17_naive_handle_reserves_a_gigabyte_and_a_cpu_does_not() -> None:
    program = """
import sys, unicorn
def size(): return int(open('/proc/self/statm').read().split()[0]) * 4096
from sandbox.engine.cpu import Cpu
from tests.patience import PATIENCE, busy, running
Cpu()
before = size(); keep = Cpu(); ours = size() - before
before = size(); u = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32); u.mem_map(0, 4096); u.mem_write(0, b'\\xf4')
u.emu_start(0, 16); stock = size() - before
print(ours >> 20, stock >> 20)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    text = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    ours, stock = map(int, text.stdout.split())
    assert stock > 900
    assert ours < 64


# -- 18: undefined instructions --------------------------------------------------------------------------------------


def test_18_naive_undefined_instruction_is_an_error(board: Board, naive: Naive) -> None:
    place(board, "nop\nud2")
    with pytest.raises(unicorn.UcError) as caught:
        naive.run()
    assert caught.value.errno == uc.UC_ERR_INSN_INVALID
    assert naive.vectors == []


def test_18_undefined_instruction_is_a_trap(board: Board) -> None:
    for _ in range(3):
        assert board.run("nop\nud2\nnop") == Trap(CODE + 1, 6, 0, 0, 3, False)
    board.cpu.context.eip = CODE + 3
    board.poke(CODE + 3, b"\xcd\x80")
    board.cpu.drop_all_code()
    assert board.cpu.run(10).vector == 0x80  # type: ignore[attr-defined]


# -- 19: division ----------------------------------------------------------------------------------------------------


def test_19_naive_division_kills_the_process() -> None:
    program = (
        "import unicorn\nu = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)\nu.mem_map(0, 4096)\n"
        "u.mem_write(0, bytes.fromhex('ba00000080' '31c0' 'b9ffffffff' 'f7f9'))\nu.emu_start(0, 64)\n"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGFPE


OPERANDS = {
    "register": "{r}",
    "memory": "{w} ptr [0x410010]",
    "base": "{w} ptr [ebx]",
    "base-displacement-8": "{w} ptr [ebx+8]",
    "base-displacement-32": "{w} ptr [ebx+0x1008]",
    "sib": "{w} ptr [ebx+esi*4]",
    "sib-displacement-8": "{w} ptr [ebx+esi*2+4]",
    "sib-displacement-32": "{w} ptr [ebx+esi*8+0x1000]",
    "sib-without-base": "{w} ptr [esi*8+0x410000]",
    "stack": "{w} ptr [esp+4]",
    "frame": "{w} ptr [ebp]",
    "segment": "{w} ptr fs:[0x410010]",
}


@pytest.mark.parametrize("operand", OPERANDS)
@pytest.mark.parametrize("width", [1, 2, 4])
def test_19_overflow_is_a_divide_error_at_the_instruction(board: Board, width: int, operand: str) -> None:
    """The most negative number by -1 (SDM 2A, IDIV), in every operand form that changes the engine's own code."""
    word, register = {1: ("byte", "cl"), 2: ("word", "cx"), 4: ("dword", "ecx")}[width]
    board.load(f"nop\nidiv {OPERANDS[operand].format(w=word, r=register)}\nint 0x80")
    state = board.cpu.context
    for linear in range(DATA, DATA + 0x2000, 4):
        board.poke(linear, b"\xff\xff\xff\xff")
    board.poke(STACK + 0x2000, b"\xff" * 8)
    state.ecx = 0xFFFFFFFF
    state.ebx, state.esi, state.ebp = DATA, 2, DATA + 0x20
    state.eax, state.edx = {1: (0x8000, 0), 2: (0, 0x8000), 4: (0, 0x80000000)}[width]
    registers = state.general()
    for _ in range(3):
        state.eip = CODE
        assert board.cpu.run(10) == Trap(CODE + 1, 0, 0, 0, 3, False)
        assert state.general() == registers
    state.eip = CODE
    state.eax, state.edx = {1: (0x7F, 0), 2: (0x7FFF, 0), 4: (0x7FFFFFFF, 0)}[width]
    assert board.cpu.run(10).vector == 0x80, "one less fits"  # type: ignore[attr-defined]
    assert state.eax & 0xFF == 0x81 if width == 1 else state.eax & 0xFF == 1


@pytest.mark.parametrize(("high", "low"), [(0x80000000, 0), (0xFFFFFFFF, 0x80000000), (0x40000000, 0), (0x80000000, 1)])
def test_19_all_double_words_whose_quotient_does_not_fit(board: Board, high: int, low: int) -> None:
    board.load("idiv ecx\nint 0x80")
    state = board.cpu.context
    state.edx, state.eax, state.ecx = high, low, 0xFFFFFFFF
    assert board.cpu.run(10) == Trap(CODE, 0, 0, 0, 3, False)


def test_19_a_thousand_divide_errors(board: Board) -> None:
    board.load("idiv ecx\nint 0x80")
    state = board.cpu.context
    for _ in range(1000):
        state.edx, state.eax, state.ecx, state.eip = 0x80000000, 0, 0xFFFFFFFF, CODE
        assert board.cpu.run(10).vector == 0  # type: ignore[attr-defined]


# -- 20: the state at the start --------------------------------------------------------------------------------------


def test_20_naive_start_state_is_not_a_processors(board: Board) -> None:
    fresh = unicorn.Uc(uc.UC_ARCH_X86, uc.UC_MODE_32)
    assert fresh.reg_read(x86.UC_X86_REG_FPCW) == 0
    assert fresh.reg_read(x86.UC_X86_REG_MXCSR) == 0
    chosen = unicorn.Uc(uc.UC_ARCH_X86, uc.UC_MODE_32)
    chosen.ctl_set_cpu_model(x86.UC_CPU_X86_N270)
    chosen.mem_map(0, 4096)
    chosen.mem_write(0, bytes.fromhex("0f57c0f4"))
    with pytest.raises(unicorn.UcError):
        chosen.emu_start(0, 64)


def test_20_fresh_cpu_computes() -> None:
    cpu = Cpu()
    assert cpu.context.x87()[:3] == (0x37F, 0, 0)
    assert (cpu.context.mxcsr, cpu.context.cr0 & 0x33, cpu.context.cr4 & 0x600) == (0x1F80, 0x33, 0x600)
    board = Board()
    board.run(f"fld1\nfldpi\nfaddp\nfstp qword ptr [{DATA:#x}]\nxorps xmm0, xmm0\nint 0x80")
    assert struct.unpack("<d", board.peek(DATA, 8).to_bytes(8, "little"))[0] == pytest.approx(4.141592653589793)


# -- faults in the middle of things ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "registers", "wanted"), [
    ("cld\nrep stosb", {"edi": MISSING - 3, "ecx": 10}, {"edi": MISSING, "ecx": 7}),
    ("cld\nrep stosd", {"edi": MISSING - 8, "ecx": 10}, {"edi": MISSING, "ecx": 8}),
    ("std\nrep stosb", {"edi": DATA + 2, "ecx": 10}, {"edi": DATA - 1, "ecx": 7}),
    ("cld\nrep movsb", {"esi": MISSING - 5, "edi": DATA, "ecx": 10}, {"esi": MISSING, "edi": DATA + 5, "ecx": 5}),
    ("cld\nrep movsd", {"esi": DATA, "edi": MISSING - 6, "ecx": 5}, {"esi": DATA + 4, "edi": MISSING - 2, "ecx": 4}),
    ("cld\nrepe cmpsb", {"esi": DATA, "edi": MISSING - 4, "ecx": 9}, {"esi": DATA + 4, "edi": MISSING, "ecx": 5}),
    ("cld\nrepne scasb", {"edi": MISSING - 2, "ecx": 9, "eax": 1}, {"edi": MISSING, "ecx": 7}),
    ("cld\nrep lodsb", {"esi": MISSING - 2, "ecx": 9}, {"esi": MISSING, "ecx": 7}),
])  # fmt: skip
def test_fault_inside_rep(board: Board, code: str, registers: dict[str, int], wanted: dict[str, int]) -> None:
    """The registers tell how far it came, and EIP is the instruction, prefix and all (SDM 2B, REP)."""
    board.load(code + "\nint 0x80")
    state = board.cpu.context
    for name, value in registers.items():
        setattr(state, name, value)
    exit_ = board.cpu.run(1000)
    assert isinstance(exit_, Trap)
    assert (exit_.vector, exit_.eip) == (14, CODE + 1)
    assert {name: getattr(state, name) for name in wanted} == wanted
    for page in (MISSING, DATA - 0x1000):
        board.map(page)
    assert board.cpu.run(1000).vector == 0x80  # type: ignore[attr-defined]
    assert state.ecx == 0 or "scasb" in code


def test_contexts_swapped_while_one_is_in_the_middle_of_a_fault(board: Board) -> None:
    """A user fault, a kernel routine on another context that faults too, a third inside that: all come back right."""
    cpu = board.cpu
    board.load(f"stc\nmov ecx, 5\nmov eax, [{MISSING:#x}]\nadc ecx, eax\nint 0x80")
    user = cpu.context
    assert cpu.run(10) == Trap(CODE + 6, 14, 4, MISSING, 3, False)
    depth: list[tuple[int, int]] = []
    outer = user
    for level in range(1, 4):
        inner = cpu.new_context()
        board.poke(CODE + 0x200 * level, assembled(f"mov edx, {level}\nmov ebx, [{MISSING + 0x1000 * level:#x}]\nhlt"))
        cpu.context = inner
        board.start(CODE + 0x200 * level, ring=0)
        exit_ = cpu.run(10)
        assert isinstance(exit_, Trap)
        assert (exit_.vector, exit_.address, exit_.cpl) == (14, MISSING + 0x1000 * level, 0)
        depth.append((inner.edx, exit_.eip))
        outer = inner
    assert outer.edx == 3
    board.map(MISSING)
    board.poke(MISSING, struct.pack("<I", 10))
    cpu.context = user
    assert (user.cr2, user.eflags & 1, user.eip) == (MISSING, 1, CODE + 6)
    assert cpu.run(10).vector == 0x80  # type: ignore[attr-defined]
    assert user.ecx == 16, "5 + 10 and the carry from before the fault"
    assert depth == [(level, CODE + 0x200 * level + 5) for level in range(1, 4)]
