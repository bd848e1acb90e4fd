"""What is to run before a run, in one call of host code: order, clock, what stops it, and when it is not offered."""

from __future__ import annotations

import pytest

from sandbox.engine import stubs
from sandbox.engine.context import CpuContext
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import BlocksSpent, Exit, Halt, Paused, StoppedAhead, Trap
from sandbox.engine.stubs import native_host
from tests.engine.board import CODE, DATA, PAGES, Board

pytestmark = pytest.mark.skipif(not native_host(), reason="the stubs are x86-64 Linux code")
ROUTINE, MISSING = CODE + 0x1000, DATA + PAGES * 0x1000
PROGRAM = f"mov eax, [{DATA:#x}]\ninc dword ptr [{DATA:#x}]\nint 0x80"


@pytest.fixture
def board() -> Board:
    return Board()


def ahead(board: Board, routine: str, program: str = PROGRAM) -> CpuContext:
    """A context of ring 0 at a routine; the CPU's own is at a program of ring 3."""
    board.load(routine, ROUTINE, ring=0)
    made = board.cpu.new_context()
    board.load(program)
    return made


def test_it_runs_first_and_is_on_the_clock_before(board: Board) -> None:
    first = ahead(board, f"mov dword ptr [{DATA:#x}], 7\njmp 1f\nnop\n1: hlt")
    board.cpu.clock = 100
    board.cpu.go_ahead(first, 1000, 2)
    assert (board.cpu.clock, board.peek(DATA)) == (102, 0)
    exit_ = board.cpu.run(50)
    assert isinstance(exit_, Trap) and (exit_.vector, exit_.cpl, exit_.software) == (0x80, 3, True)
    assert (board.cpu.context.eax, board.peek(DATA), board.cpu.clock) == (7, 8, 103)
    assert not board.cpu.take_back()


def test_it_runs_once(board: Board) -> None:
    first = ahead(board, f"inc dword ptr [{DATA:#x}]\nhlt", "int 0x80\nint 0x80")
    board.cpu.go_ahead(first, 1000, 1)
    for _ in range(2):
        board.cpu.run(50)
    assert board.peek(DATA) == 1


def test_what_is_taken_back_does_not_run(board: Board) -> None:
    first = ahead(board, f"mov dword ptr [{DATA:#x}], 7\nhlt")
    board.cpu.go_ahead(first, 1000, 1)
    assert board.cpu.take_back()
    board.cpu.run(50)
    assert board.cpu.context.eax == 0


@pytest.mark.parametrize(
    ("routine", "budget", "cause"),
    [
        pytest.param(f"mov eax, [{MISSING:#x}]\nhlt", 1000, Trap, id="page fault"),
        pytest.param("ud2\nhlt", 1000, Trap, id="invalid opcode"),
        pytest.param("1: inc eax\njmp 1b", 20, BlocksSpent, id="budget"),
    ],
)
def test_what_stops_it_is_told(board: Board, routine: str, budget: int, cause: type[Exit]) -> None:
    """Nothing of the program has run, and the clock stands where the charge has set it."""
    first, user = ahead(board, routine), board.cpu.context
    board.cpu.clock = 100
    board.cpu.go_ahead(first, budget, 5)
    exit_ = board.cpu.run(50)
    assert isinstance(exit_, StoppedAhead) and isinstance(exit_.cause, cause)
    assert board.cpu.context is first and board.cpu.clock == 105 and user.eip == CODE
    if isinstance(exit_.cause, Trap):
        assert (exit_.cause.eip, exit_.cause.cpl) == (ROUTINE, 0)
    board.cpu.context = user
    assert isinstance(board.cpu.run(50), Trap) and user.eax == 0 and board.cpu.clock == 106


def test_what_was_stopped_goes_on(board: Board) -> None:
    first = ahead(board, f"mov ecx, 50\n1: dec ecx\njnz 1b\nmov dword ptr [{DATA:#x}], 7\nhlt")
    board.cpu.go_ahead(first, 20, 51)
    user = board.cpu.context
    assert isinstance(board.cpu.run(50), StoppedAhead)
    assert isinstance(board.cpu.run(1000), Halt)
    board.cpu.context = user
    board.cpu.run(50)
    assert user.eax == 7


def test_a_pause_leaves_what_is_left_of_its_own_budget(board: Board) -> None:
    """Not of the program's, which may be a block."""
    first = ahead(board, "xor eax, eax\n" + "jnz 1f\n" * 10 + f"1: mov dword ptr [{DATA:#x}], 7\nhlt")
    board.cpu._words[stubs.PAD_SHARE] = 3
    board.cpu.go_ahead(first, 1000, 1)
    exit_ = board.cpu.run(1)
    assert isinstance(exit_, StoppedAhead) and isinstance(exit_.cause, Paused)
    assert board.cpu.blocks_left == 999


def test_only_a_plain_cpu_offers_it(board: Board) -> None:
    """Whoever sees single runs, entries or instructions sees those of the routine by themselves."""
    cpu = board.cpu
    assert cpu.plain
    cpu.run_by(lambda cpu, blocks, steps=None: Cpu.run(cpu, blocks, steps))
    assert not cpu.plain
    cpu.run_by(None)
    assert cpu.plain
    cpu.set_breakpoint(CODE)
    assert not cpu.plain
    cpu.clear_breakpoint(CODE)
    cpu.count_instructions(True)
    assert not cpu.plain
    cpu.count_instructions(False)
    assert cpu.plain


def test_who_looks_at_entries_is_not_plain(board: Board) -> None:
    board.cpu.before_entries(lambda: None)
    other = Board()
    other.cpu.time_entries(lambda cpl, seconds: None)
    assert not board.cpu.plain and not other.cpu.plain


def test_who_looks_now_and_then_is_asked_once(board: Board) -> None:
    looks: list[int] = []

    class Set:
        alert = True

    board.cpu.before_entries(lambda: looks.append(board.cpu.context.cpl), Set())
    assert board.cpu.plain
    first = ahead(board, f"inc dword ptr [{DATA:#x}]\nhlt")
    board.cpu.go_ahead(first, 1000, 1)
    board.cpu.run(50)
    assert looks == [3] and board.cpu.context.eax == 1
    board.cpu.time_entries(lambda cpl, seconds: None)
    assert not board.cpu.plain
