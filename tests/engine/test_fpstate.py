"""Whose floating-point state is whose: CPUs in turns, contexts, Python's callbacks; and the faults, by the manual."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.engine import stubs
from sandbox.engine.exits import Halt, Trap
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import run_program
from sandbox.x86.masks import CR0_NE, CR4_OSXMMEXCPT
from tests.engine import fpvectors
from tests.engine.board import CODE, DATA, Board, assembled
from tests.hosttools import compiled, native_lines

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the mends are x86-64 Linux code")
IE, ZE, PE = 1, 4, 32
INEXACT = "fninit; fld1; fldpi; fdivp st(1), st; movss xmm0, dword ptr [{0}]; divss xmm0, dword ptr [{0}+4]; hlt"
EXACT = "fninit; fld1; fadd st, st(0); fnstsw ax; movss xmm0, dword ptr [{0}]; addss xmm0, xmm0; stmxcsr [{0}+8]; hlt"


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    made.poke(DATA, struct.pack("<2f", 1.0, 3.0))
    yield made
    made.cpu.close()


def run(board: Board, text: str, ring: int = 0, blocks: int = 100) -> object:
    board.load(text.replace("; ", "\n").format(DATA), ring=ring)
    return board.cpu.run(blocks)


def test_cpus_in_turns(board: Board) -> None:
    other = Board(index=1)
    other.poke(DATA, struct.pack("<2f", 1.0, 3.0))
    for _ in range(3):
        assert isinstance(run(board, INEXACT), Halt) and isinstance(run(other, EXACT), Halt)
        assert board.cpu.context.x87()[1] & 0x3F == PE and board.cpu.context.mxcsr & 0x3F == PE
        assert other.cpu.context.eax & 0x3F == 0 and other.peek(DATA + 8) == 0x1F80
    other.cpu.close()


def test_a_context_keeps_its_own(board: Board) -> None:
    run(board, INEXACT)
    kept = board.cpu.new_context()
    run(board, EXACT)
    assert board.peek(DATA + 8) == 0x1F80
    board.poke(CODE, assembled(f"fnstsw ax\nstmxcsr [{DATA}+8]\nhlt"))
    board.cpu.drop_all_code()
    kept.eip = CODE
    board.cpu.context = kept
    assert isinstance(board.cpu.run(10), Halt)
    assert (kept.eax & 0x3F, board.peek(DATA + 8)) == (PE, 0x1FA0)


def test_what_python_computes_is_not_the_guests(board: Board) -> None:
    third = []

    def compute(*_: int) -> int:
        third.append(len(third) / 3.0 + 0.1)
        return 7

    board.cpu.connect_ports(compute, compute)
    board.cpu.map_mmio(0x4000000, 0x1000, compute, compute)
    board.set_entry(CODE + 0x30000, 0x4000000 | 7)
    code = f"in al, 0x60; mov eax, [{CODE + 0x30000}]; rdtsc; out 0x60, al; " + EXACT
    assert isinstance(run(board, code), Halt)
    assert len(third) == 3
    assert (board.cpu.context.eax & 0x3F, board.peek(DATA + 8)) == (0, 0x1F80)


UNMASKED = "fninit; push 0x37b; fldcw [esp]; fld1; fldz; fdivp st(1), st; "


@pytest.mark.parametrize("waiting", ["fwait", "fld1", "fadd st, st(1)", "fldcw [esp]", "fstp qword ptr [{0}]", "emms"])
def test_pending_exceptions_at_the_next_waiting_instruction(board: Board, waiting: str) -> None:
    """SDM 1, 8.7; the division itself stores and pops nothing (8.5.3), so that both operands are there."""
    trap = run(board, UNMASKED + "fnstsw ax; " + waiting + "; hlt", ring=3)
    assert isinstance(trap, Trap) and (trap.vector, trap.software) == (16, False)
    _, status, tags, stack = board.cpu.context.x87()
    assert (status & 0xBF, status >> 11 & 7, tags) == (0x80 | ZE, 6, 0xC0)
    assert (board.cpu.context.eax & 0xFFFF, stack[0][7:], stack[1][8:]) == (status, bytes(3), b"\xff\x3f")


def test_without_ne_nothing_is_raised(board: Board) -> None:
    board.load((UNMASKED + "fwait; fld1; hlt").replace("; ", "\n"), ring=0)
    board.cpu.context.cr0 &= ~CR0_NE
    assert isinstance(board.cpu.run(100), Halt)


def test_a_store_with_an_unmasked_response_is_left_out(board: Board) -> None:
    """SDM 1, 8.5.1.1: the operand in memory and the stack stay; the next instruction follows, stepped or not."""
    text = f"fninit\npush 0x37e\nfldcw [esp]\nfld tbyte ptr [{DATA}]\nfistp dword ptr [{DATA}+16]\nmov eax, 5\nnop\nhlt"
    clocks = []
    for steps in (None, 1):
        board.poke(DATA, struct.pack("<QH6xI", 1 << 63, 0x4FFF, 0x12345678))
        board.load(text, ring=0)
        before, exit_ = board.cpu.clock, board.cpu.run(100, steps)
        for _ in range(20):
            if isinstance(exit_, Halt):
                break
            exit_ = board.cpu.run(100, steps)
        assert isinstance(exit_, Halt)
        clocks.append(board.cpu.clock - before)
        _, status, tags, _ = board.cpu.context.x87()
        assert (board.peek(DATA + 16), board.cpu.context.eax) == (0x12345678, 5)
        assert (status & 0xBF, status >> 11 & 7, tags) == (0x80 | IE, 7, 0x80)
    assert clocks[0] == clocks[1]


def test_sse_exceptions(board: Board) -> None:
    """SDM 3A, 6.15: #XM, or #UD without CR4.OSXMMEXCPT; nothing is written (SDM 1, 11.5.2)."""
    board.poke(DATA + 16, struct.pack("<I2f", 0x1D80, 0.0, 1.0))
    code = "ldmxcsr [{0}+16]; movss xmm0, dword ptr [{0}+24]; divss xmm0, dword ptr [{0}+20]; hlt"
    trap = run(board, code)
    assert isinstance(trap, Trap) and trap.vector == 19
    assert (board.cpu.context.mxcsr, board.cpu.context.xmm(0)[:4]) == (0x1D84, struct.pack("<f", 1.0))
    board.load(code.replace("; ", "\n").format(DATA), ring=0)
    board.cpu.context.cr4 &= ~CR4_OSXMMEXCPT
    trap = board.cpu.run(100)
    assert isinstance(trap, Trap) and trap.vector == 6


@pytest.mark.parametrize("code", ["ldmxcsr [{0}+24]", "fxrstor [{0}]"])
def test_reserved_bits_of_mxcsr(board: Board, code: str) -> None:
    """#GP(0), SDM 2A, LDMXCSR and FXRSTOR; MXCSR stays."""
    board.poke(DATA + 24, struct.pack("<I", 0x11F80))
    trap = run(board, code + "; hlt", ring=3)
    assert isinstance(trap, Trap) and (trap.vector, trap.error_code, trap.eip) == (13, 0, CODE)
    assert board.cpu.context.mxcsr == 0x1F80


def test_environments(board: Board) -> None:
    """FNSTENV masks all, FLDENV brings the exception back, pending (SDM 2A)."""
    exit_ = run(board, UNMASKED + "fnstenv [{0}]; fld1; fstp st(0); fnstcw [{0}+40]; fldenv [{0}]; fld1; hlt", ring=0)
    assert isinstance(exit_, Trap) and exit_.vector == 16
    assert board.peek(DATA + 40, 2) == 0x37F and board.peek(DATA, 2) == 0x37B
    assert board.cpu.context.x87()[0] == 0x37B and board.cpu.context.x87()[1] & 0xBF == 0x80 | ZE


def test_an_environment_that_faults_changes_nothing(board: Board) -> None:
    """A page fault of FRSTOR, at its own address, leaves the state."""
    edge = DATA + 4 * 4096
    trap = run(board, f"fninit; fld1; frstor [{edge - 50}]; hlt", ring=3)
    assert isinstance(trap, Trap) and (trap.vector, trap.address & -4096) == (14, edge)
    assert board.cpu.context.x87()[:3] == (0x37F, 7 << 11, 0x80)


@pytest.mark.skipif(not fpvectors.amd(), reason="Intel's processors keep them in other ways")
def test_the_last_instruction_as_natively(tmp_path: Path) -> None:
    """FIP, FCS, FOP, FDP and FDS in FNSTENV, FXSAVE and signal frames, against this host's CPU and kernel."""
    program, source = tmp_path / "pointers", fpvectors.FOLDER / "pointers.c"
    compiled("gcc", "-m32", "-static", "-no-pie", "-fno-pic", "-O1", "-w", "-o", program, source)
    native = native_lines(program)
    found = run_program("/tmp/pointers", program.read_bytes(), (), KernelConfig(time_limit=0))
    assert found.stdout.decode().splitlines() == native
    assert len(native) == 31


def test_the_last_instruction_is_the_contexts(board: Board) -> None:
    """SDM 1, 8.1.8 and 8.1.9: D9 EB at CODE + 2, DC 05 behind it; FOP is known with the exception."""
    run(board, "fninit; fldpi; fadd qword ptr [{0}]; hlt", ring=3)
    offset, selector, _, operand, operand_selector = board.cpu.context.last_x87
    assert (offset, operand) == (CODE + 4, DATA) and selector & 3 == operand_selector & 3 == 3
    run(board, "fninit; push 0x37b; fldcw [esp]; fldz; fdivr qword ptr [{0}]; fwait; hlt", ring=3)
    assert board.cpu.context.last_x87[2] == 0x43D
    image = board.cpu.context.fxsave()
    assert struct.unpack_from("<HQQ", image, 6)[::2] == (0x43D, DATA)
    board.cpu.context.reset_fpu()
    assert board.cpu.context.last_x87 == (0, 0, 0, 0, 0)
    board.cpu.context.fxrstor(image)
    assert board.cpu.context.last_x87[2:4] == (0x43D, DATA)
