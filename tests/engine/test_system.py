"""System instructions as the manual has them: ``native/system.S`` in the place of the engine's helpers."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.engine import stubs, system
from sandbox.engine.exits import Exit, Halt, Trap
from sandbox.x86.masks import CR0_PG
from sandbox.x86.paging import US, P
from tests.engine.board import CODE, DATA, GDT, PAGES, STACK, USER_CODE, Board
from tests.hosttools import host_code

SOURCE = Path(stubs.__file__).parent / "native" / "system.S"
MISSING = DATA + PAGES * 4096
DB, GP, PF = 1, 13, 14
GD, BD = 1 << 13, 1 << 13
pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the host code is for x86-64 Linux")


@pytest.fixture
def board() -> Board:
    return Board()


def trap(exit_: Exit) -> tuple[int, int, int]:
    """EIP from CODE, vector, error code."""
    assert isinstance(exit_, Trap), exit_
    return exit_.eip - CODE, exit_.vector, exit_.error_code


@pytest.mark.skipif(not shutil.which("as"), reason="no GNU as")
def test_bytes_are_the_sources(tmp_path: Path) -> None:
    assert host_code(SOURCE, tmp_path)[0] == system.code()


def test_the_known_places_are_those_that_a_search_finds() -> None:
    """In a process without a CPU, where the engine's tables still have its own functions."""
    code = (
        "from sandbox.engine import internals, mends, system\n"
        "names = {name: internals.symbol(name + '_x86_64') for name in system._PLACES}\n"
        "base = internals.image().base\n"
        "found = mends.search({**names, 'helper_fpop': internals.symbol('helper_fpop_x86_64')})\n"
        "print({name: tuple(at - base for at in found[name]) for name in names})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert eval(done.stdout) == system._PLACES


def test_the_engine_of_the_wheel_runs_without() -> None:
    """``--engine stock``: a null segment is read as if it were flat."""
    code = (
        "from sandbox.engine import mends, system\n"
        "mends.choose(mends.STOCK)\n"
        "from tests.engine.board import Board\n"
        "exit_ = Board().run('xor eax, eax\\nmov gs, eax\\nmov eax, gs:[0x410000]\\nint 0x80')\n"
        "print(exit_.vector, system.install().reason)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "128 --engine stock\n"


# -- CR0 and CR4 (SDM 3A, 2.5): what is reserved or impossible is #GP(0), and nothing has changed ---------------------


@pytest.mark.parametrize("bit", [12, 13, 14, 15, 17, 19, *range(21, 32)])
def test_reserved_bits_of_cr4(board: Board, bit: int) -> None:
    """CPUID tells of neither VMX nor SMX, PCID, SMAP and later ones."""
    exit_ = board.run(f"mov eax, cr4\nor eax, {1 << bit:#x}\nmov cr4, eax\nhlt", ring=0)
    assert trap(exit_) == (8, GP, 0)
    assert not board.cpu.context.cr4 >> bit & 1


@pytest.mark.parametrize("bit", [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11])
def test_bits_of_cr4_that_are_there(board: Board, bit: int) -> None:
    exit_ = board.run(f"mov eax, cr4\nor eax, {1 << bit:#x}\nmov cr4, eax\nmov ebx, cr4\nhlt", ring=0)
    assert isinstance(exit_, Halt)
    assert board.cpu.context.ebx >> bit & 1


PRIVATE = {
    "sgdt": "0f010500004100", "sidt": "0f010d00004100", "gs: sgdt": "650f010500004100", "smsw memory": "0f012500004100",
    "smsw eax": "0f01e0", "smsw ax": "660f01e0", "sldt eax": "0f00c0", "sldt memory": "0f000500004100",
    "str ecx": "0f00c9", "str memory": "0f000d00004100",
}  # fmt: skip
OTHERS = {"lgdt": "0f011500004100", "verr eax": "0f00e0", "invlpg": "0f013d00004100"}


@pytest.mark.parametrize("name", PRIVATE)
@pytest.mark.parametrize("missing", [False, True])
def test_umip(board: Board, name: str, missing: bool) -> None:
    """#GP(0) in ring 3 with CR4.UMIP, before a page fault of the operand; not in ring 0 (SDM 2B, SGDT; 3A, 2.5)."""
    code = bytes.fromhex(PRIVATE[name])
    for ring, umip in ((3, 1 << 11), (0, 1 << 11), (3, 0)):
        board.poke(CODE, code + b"\xf4")
        board.cpu.drop_all_code()
        board.start(CODE, ring)
        board.cpu.context.cr4 |= umip
        if missing:
            board.unmap(DATA)
        exit_ = board.cpu.run(10)
        if ring and umip:
            assert trap(exit_) == (0, GP, 0)
        elif missing and DATA.to_bytes(4, "little") in code:
            assert isinstance(exit_, Trap) and exit_.vector == PF
        else:
            assert isinstance(exit_, Halt if not ring else Trap) and board.cpu.context.eip == CODE + len(code) + (
                not ring
            )


@pytest.mark.parametrize("name", OTHERS)
def test_umip_is_for_those_only(board: Board, name: str) -> None:
    code = bytes.fromhex(OTHERS[name])
    board.poke(CODE, code + b"\xf4")
    board.start(CODE, 0)
    board.cpu.context.cr4 |= 1 << 11
    board.cpu.run(10)
    assert board.cpu.context.eip >= CODE + len(code)


def test_umip_where_cpuid_tells(board: Board) -> None:
    """Bit 2 of ECX, leaf 7, subleaf 0; the largest leaf has it (SDM 2A, CPUID).  Code that ran before is not exempt."""
    exit_ = board.run("xor eax, eax\ncpuid\nmov esi, eax\nmov eax, 7\nxor ecx, ecx\ncpuid\nhlt", ring=0)
    assert isinstance(exit_, Halt) and board.cpu.context.esi >= 7 and board.cpu.context.ecx == 4
    board.load("str eax\nint 0x80")
    assert trap(board.cpu.run(10))[1] == 0x80
    board.start(CODE)
    board.cpu.context.cr4 |= 1 << 11
    assert trap(board.cpu.run(10)) == (0, GP, 0)


@pytest.mark.parametrize("change", ["and eax, 0xFFFFFFFE", "or eax, 0x20000000\nand eax, 0xBFFFFFFF"])
def test_paging_without_protection_and_nw_without_cd(board: Board, change: str) -> None:
    exit_ = board.run(f"mov eax, cr0\n{change}\nmov cr0, eax\nhlt", ring=0)
    assert isinstance(exit_, Trap)
    assert exit_.vector == GP
    assert board.cpu.context.cr0 & CR0_PG


def test_lmsw_sets_pe_and_clears_it_not(board: Board) -> None:
    """SDM 2A, LMSW: PE, MP, EM and TS; PE cannot be cleared."""
    exit_ = board.run("mov eax, 0xFFF4\nlmsw ax\nmov ebx, cr0\nhlt", ring=0)
    assert isinstance(exit_, Halt)
    assert board.cpu.context.ebx & 0xFFFF == board.cpu.context.cr0 & 0xFFF0 | 5


@pytest.mark.parametrize("ring", [0, 3])
def test_smsw_stores_all_of_cr0_in_a_32_bit_register(board: Board, ring: int) -> None:
    """The upper half is undefined by the manual (SDM 2B, SMSW), and CR0's on an AMD host."""
    board.run("mov eax, -1\nmov ebx, -1\nmov esi, esp\n.byte 0x0f, 1, 0xe0\n.byte 0x66, 0x0f, 1, 0xe3\n"
              ".byte 0x0f, 1, 0xe4\nmov ecx, esp\nmov esp, esi\nint 0x80", ring=ring)  # fmt: skip
    state = board.cpu.context
    assert (state.eax, state.ebx, state.ecx) == (state.cr0, 0xFFFF0000 | state.cr0 & 0xFFFF, state.cr0)


# -- DR7.GD (SDM 3B, 17.2.4) ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["mov eax, dr0", "mov dr1, eax", "mov eax, dr7", "mov dr7, eax", "mov ecx, dr6"])
def test_general_detect(board: Board, code: str) -> None:
    board.load(f"nop\n{code}\nhlt", ring=0)
    state = board.cpu.context
    state.set_debug_register(7, GD)
    assert trap(board.cpu.run(10)) == (1, DB, 0)
    assert state.debug_register(6) & BD
    assert not state.debug_register(7) & GD
    assert isinstance(board.cpu.run(10), Halt)


def test_general_detect_is_for_ring_0_alone(board: Board) -> None:
    """In ring 3 the access is #GP whatever GD says, and GD stays."""
    board.load("mov eax, dr7")
    board.cpu.context.set_debug_register(7, GD)
    assert trap(board.cpu.run(10)) == (0, GP, 0)
    assert board.cpu.context.debug_register(7) & GD


# -- null segments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ring", [0, 3])
@pytest.mark.parametrize(
    ("segment", "code"),
    [("gs", "mov eax, gs:[0x410000]"), ("fs", "inc dword ptr fs:[0x410000]"), ("ds", "mov [0x410000], eax"),
     ("es", "stosd"), ("ds", "lodsd"), ("es", "movsd"), ("ds", "xlatb"), ("ds", "push dword ptr [edi]")],
)  # fmt: skip
def test_null_segments_fault_at_the_instruction_with_its_flags(
    board: Board, ring: int, segment: str, code: str
) -> None:
    """SDM 3A, 3.4.2: #GP(0); what came before in the same block is done, flags included."""
    before = "mov esi, 0x410000\nmov edi, esi\nmov ebx, esi\nxor eax, eax"
    board.load(f"{before}\nmov {segment}, eax\nsub eax, 1\n{code}\nhlt", ring=ring)
    exit_ = board.cpu.run(10)
    assert isinstance(exit_, Trap)
    assert (exit_.vector, exit_.error_code, exit_.eip - CODE) == (GP, 0, 16)
    assert board.cpu.context.eflags & 0x8D5 == 0x95
    assert board.peek(DATA) == 0


def test_a_segment_that_is_loaded_again_is_good_again(board: Board) -> None:
    board.poke(DATA, struct.pack("<I", 77))
    exit_ = board.run("xor eax, eax\nmov gs, eax\nmov ax, 0x23\nmov gs, ax\nmov ebx, 3\nagain: mov eax, gs:[0x410000]\n"
                      "dec ebx\njnz again\nint 0x80")  # fmt: skip
    assert trap(exit_)[1:] == (0x80, 0)
    assert board.cpu.context.eax == 77


def test_a_load_of_a_segment_ends_no_counted_block(board: Board) -> None:
    """The clock is that of the same code without the load."""
    text = "mov ecx, 5\nagain: {0}\nnop\nloop again\nint 0x80"
    clocks = []
    for code in ("mov eax, gs", "mov gs, ax"):
        board.load(text.format(code))
        board.cpu.context.eax = 0x23
        before = board.cpu.clock
        board.cpu.run(100)
        clocks.append(board.cpu.clock - before)
    assert clocks[0] == clocks[1]


def test_a_context_without_segments_says_so(board: Board) -> None:
    """What a kernel puts into a program's state counts like what code loads."""
    board.load("mov eax, fs:[0x410000]\nhlt")
    board.cpu.context.set_segment("fs", 0, 0, 0, 0)
    assert trap(board.cpu.run(10)) == (0, GP, 0)


def test_a_return_to_ring_3_takes_inner_segments_away(board: Board) -> None:
    """SDM 2A, IRET: a data segment with DPL 0 is null in ring 3."""
    board.load("mov eax, ds:[0x410000]", CODE + 0x100)
    board.load(
        f"push 0x23\npush {STACK + 0x1000:#x}\npush 2\npush {USER_CODE:#x}\npush {CODE + 0x100:#x}\niretd", ring=0
    )
    assert trap(board.cpu.run(10)) == (0x100, GP, 0)
    assert board.cpu.context.segment("ds").selector & 0xFFFC == 0


# -- software interrupts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "length"),
    [("int3", 1), ("int 0x80", 2), ("int 6", 2), (".byte 0x66, 0x2e, 0xcd, 9", 4), (".byte 0xf3, 0xcc", 2)],
)
def test_an_interrupt_tells_where_it_began(board: Board, code: str, length: int) -> None:
    exit_ = board.run(f"mov al, 0xF3\n{code}\nnop")
    assert isinstance(exit_, Trap)
    assert (exit_.software, exit_.eip) == (True, CODE + 2 + length)
    assert board.cpu.context.interrupt_start(exit_.eip) == CODE + 2


# -- ENTER ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 1, 2])
def test_enter_faults_with_nothing_changed(board: Board, level: int) -> None:
    board.load(f"enter 0x800, {level}")
    state = board.cpu.context
    state.esp, state.ebp = STACK + 0x1100, STACK + 0x3000
    board.unmap(STACK)
    exit_ = board.cpu.run(10)
    assert isinstance(exit_, Trap)
    assert (exit_.vector, exit_.eip) == (PF, CODE)
    assert (state.esp, state.ebp) == (STACK + 0x1100, STACK + 0x3000)
    assert board.peek(STACK + 0x1000, 0x100) == 0


# -- 16-bit call gates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["lcall", "ljmp"])
def test_a_16_bit_call_gate_has_a_16_bit_offset(board: Board, code: str) -> None:
    """SDM 3A, 5.8.3: the upper half of the descriptor is reserved in a 16-bit gate."""
    opcode = {"lcall": 0x9A, "ljmp": 0xEA}[code]
    board.load(f".byte {opcode:#x}\n.long 0x11111111\n.short 0x30", ring=0)
    struct.pack_into("<Q", board.memory, GDT + 0x30, 0x1234_8400_0008_5000)
    board.memory[0x5000] = 0xF4
    state = board.cpu.context
    state.set_segment("gdtr", 0, GDT, 0x37, 0)
    exit_ = board.cpu.run(10)
    assert isinstance(exit_, Halt)
    assert state.eip == 0x5001


def test_a_16_bit_call_gate_that_faults(board: Board) -> None:
    """The push finds no page: #PF at the call, nothing changed."""
    board.load(".byte 0x9A\n.long 0x11111111\n.short 0x30", ring=0)
    struct.pack_into("<Q", board.memory, GDT + 0x30, 0x1234_8400_0008_5000)
    state = board.cpu.context
    state.set_segment("gdtr", 0, GDT, 0x37, 0)
    state.esp = STACK + 2
    board.unmap(STACK)
    exit_ = board.cpu.run(10)
    assert isinstance(exit_, Trap)
    assert (exit_.vector, exit_.eip, state.esp) == (PF, CODE, STACK + 2)


# -- FXSAVE -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("behind", [16, 32, 288, 400, 496])
def test_fxsave_stores_all_or_nothing(board: Board, missing: int, behind: int) -> None:
    """All 512 bytes must be there, also those that are reserved, and the last one is asked for first: seen on an AMD
    host (tests/semantics/test_order.py)."""
    place = DATA + 0x2000 - behind
    board.load(f"fxsave [{place:#x}]\nhlt")
    board.unmap(DATA + 0x1000 + 0x1000 * missing)
    exit_ = board.cpu.run(10)
    assert exit_ == Trap(CODE, PF, 6, place + 511 * missing, 3, False)
    for page in (0x1000, 0x2000):
        if page != 0x1000 + 0x1000 * missing:
            assert board.peek(DATA + page, 4096) == 0


# -- DR0 to DR3 of the guest (SDM 3B, 17.2 and 17.3) ------------------------------------------------------------------


@pytest.mark.parametrize(("flags", "wanted"), [(2, DB), (0x10002, None)])
def test_iretd_with_rf_passes_one_instruction_breakpoint(board: Board, flags: int, wanted: int | None) -> None:
    """SDM 3B, 17.3.1.1: RF holds back the breakpoint of the instruction that IRETD returns to, and no later one."""
    board.load("inc eax\ninc eax\nhlt", CODE + 0x100)
    board.load(f"push {flags:#x}\npush 8\npush {CODE + 0x100:#x}\niretd", ring=0)
    state = board.cpu.context
    state.set_debug_register(0, CODE + 0x100)
    state.set_debug_register(7, 1)
    exit_ = board.cpu.run(10)
    if wanted is None:
        assert isinstance(exit_, Halt)
        assert state.eax == 2
    else:
        assert trap(exit_) == (0x100, wanted, 0)
        assert state.eax == 0
        assert state.debug_register(6) & 0xF == 1


def test_rf_holds_back_no_second_breakpoint(board: Board) -> None:
    board.load("inc eax\ninc eax\nhlt", CODE + 0x100)
    board.load(f"push 0x10002\npush 8\npush {CODE + 0x100:#x}\niretd", ring=0)
    state = board.cpu.context
    for number in (0, 1):
        state.set_debug_register(number, CODE + 0x100 + number)
    state.set_debug_register(7, 5)
    assert trap(board.cpu.run(10)) == (0x101, DB, 0)
    assert (state.eax, state.debug_register(6) & 0xF) == (1, 2)


@pytest.mark.parametrize("step", [False, True])
def test_a_data_breakpoint_and_a_single_step_are_one_trap(board: Board, step: bool) -> None:
    """SDM 3B, 17.2.3: BS and B0 are set together; #DB is behind the store."""
    board.load(f"mov dword ptr [{DATA:#x}], 7\nnop\nint 0x80")
    state = board.cpu.context
    state.eflags |= 0x100 * step
    state.set_debug_register(0, DATA)
    state.set_debug_register(7, 1 | 0xD << 16)
    assert trap(board.cpu.run(10)) == (10, DB, 0)
    assert state.debug_register(6) & 0x400F == 1 | 0x4000 * step
    assert board.peek(DATA) == 7


@pytest.mark.parametrize(
    ("before", "code", "stored"),
    [
        ("stc", "rcl dword ptr [{}], 1", 0x80000007), ("clc", "rcr dword ptr [{}], 1", 0x20000001),
        ("mov eax, 1\ncmp eax, 2", "rcl dword ptr [{}], 1", 0x80000007),
        ("mov eax, 0x80000000\nadd eax, eax", "setl byte ptr [{}]", 0x40000001),
        ("mov eax, 0x80000000\nadd eax, eax", "setp byte ptr [{}]", 0x40000001),
    ],
)  # fmt: skip
def test_a_data_breakpoint_changes_no_result(board: Board, before: str, code: str, stored: int) -> None:
    """The engine begins such an instruction again; SDM 2B, RCL and SETcc: of 40000003h by the flags of before."""
    board.load(f"{before}\n{code.format(hex(DATA))}\nnop\nint 0x80")
    board.poke(DATA, (0x40000003).to_bytes(4, "little"))
    state = board.cpu.context
    state.set_debug_register(0, DATA)
    state.set_debug_register(7, 1 | 0xD << 16)
    assert trap(board.cpu.run(10))[1] == DB
    assert board.peek(DATA) == stored


@pytest.mark.parametrize(("code", "port"), [("in al, 0x60", 0x60), ("out 0x60, al", 0x60), ("in al, 0x61", 0x60)])
def test_breakpoints_on_io(board: Board, code: str, port: int) -> None:
    """With CR4.DE and RW 2: #DB behind the access (SDM 3B, 17.2.4)."""
    board.cpu.connect_ports(lambda port, size: 7, lambda port, size, value: None)
    board.load(f"{code}\nhlt", ring=0)
    state = board.cpu.context
    state.cr4 |= 8
    state.set_debug_register(0, port)
    state.set_debug_register(7, 1 | 2 << 16)
    exit_ = board.cpu.run(10)
    if "0x61" in code:
        assert isinstance(exit_, Halt)
    else:
        assert trap(exit_) == (2, DB, 0)
        assert state.debug_register(6) & 0xF == 1


@pytest.mark.parametrize("prefix", ["", "66", "67", "2e", "f2", "f3", "f3 66"])
@pytest.mark.parametrize(("ring", "opcode"), [(0, "0f 31"), (3, "0f 31"), (0, "0f 01 f9")])
def test_reads_of_the_time_stamp_are_single_steps(board: Board, ring: int, opcode: str, prefix: str) -> None:
    """Without CR4.TSD, where the engine itself executes them: one #DB behind each instruction, as on an AMD host."""
    code = bytes.fromhex(f"90 {prefix} {opcode} 90")
    board.load("nop", ring=ring)
    board.poke(CODE, code)
    board.cpu.drop_all_code()
    state = board.cpu.context
    state.eflags |= 0x100
    places = [trap(board.cpu.run(10)) for _ in range(3)]
    assert places == [(1, DB, 0), (len(code) - 1, DB, 0), (len(code), DB, 0)]


# -- what stays as the engine has it, and is listed so on the page about fidelity -------------------------------------


def test_known_limits_and_types_of_data_segments_are_not_asked(board: Board) -> None:
    """Hardware: #GP for the store into a read-only segment, and behind a limit (SDM 3A, 5.3 and 5.5)."""
    board.load(f"mov [{DATA:#x}], eax\nmov ebx, fs:[{DATA:#x}]\nint 0x80")
    state = board.cpu.context
    state.set_segment("ds", 0x23, 0, 0xFFFFFFFF, 0xCFF100)
    state.set_segment("fs", 0x23, 0, 0xFF, 0x40F300)
    assert trap(board.cpu.run(10))[1] == 0x80


def test_known_ins_clears_before_it_asks_for_the_port(board: Board) -> None:
    """Hardware: #GP and nothing stored."""
    board.poke(DATA, b"\xff")
    board.cpu.connect_ports(lambda port, size: 7, lambda port, size, value: None)
    board.load(f"mov edi, {DATA:#x}\nmov dx, 0x60\ninsb")
    assert not isinstance(board.cpu.run(10), Halt)
    assert board.peek(DATA, 1) == 0


def test_known_arpl_writes_what_it_does_not_change(board: Board) -> None:
    """Hardware: no write, and no fault, when the RPL is high enough."""
    board.poke(DATA, b"\x03\x00")
    board.map(DATA, P | US, board.physical(DATA))
    board.cpu.flush_tlb()
    assert trap(board.run(f"xor eax, eax\narpl [{DATA:#x}], ax")) == (2, PF, 7)


def test_known_a_store_of_16_bytes_is_two(board: Board) -> None:
    """Hardware stores all or nothing."""
    place = DATA + 0x1000 - 8
    board.load(f"pcmpeqb xmm0, xmm0\nmovups [{place:#x}], xmm0")
    board.unmap(DATA + 0x1000)
    exit_ = board.cpu.run(10)
    assert exit_ == Trap(exit_.eip, PF, 6, DATA + 0x1000, 3, False)
    assert board.peek(place, 8) == 2**64 - 1
