"""A CS base that is not 0: EIP is not linear, and clock, breakpoints and faults are as with base 0 (SDM 3A, 3.4)."""

from __future__ import annotations

import pytest

from sandbox.engine.exits import BreakpointHit, Exit, Halt, Stepped, Trap
from tests.engine.board import CODE, PAGES, Board

LOOP = "mov ecx, 10\n1: inc eax\nnop\nnop\nloop 1b\nhlt"
BREAK = CODE + 5
"""Linear address of INC."""


@pytest.fixture(params=[0, 0x1000, 0x400000, 0xFFF00000])
def board(request: pytest.FixtureRequest) -> Board:
    """A board with ``LOOP``; ``begin`` puts the CPU at its start with the base of the parameter."""
    made = Board()
    made.load(LOOP, ring=0)
    begin(made, request.param)
    return made


def begin(board: Board, base: int, linear: int = CODE) -> None:
    board.start(linear, 0)
    state = board.cpu.context
    state.set_segment("cs", 8, base, 0xFFFFFFFF, 0xCF9B00)
    state.eip = linear - base


def base_of(board: Board) -> int:
    return board.cpu.context.segment("cs").base


def test_clock_free_stepped_and_with_breakpoints(board: Board) -> None:
    cpu, base, seen = board.cpu, base_of(board), []
    for steps, breaking in ((None, False), (1, False), (3, False), (None, True), (1, True)):
        begin(board, base)
        if breaking:
            cpu.set_breakpoint(BREAK)
        before = cpu.clock
        while not isinstance(exit_ := cpu.run(1000, steps), Halt):
            assert isinstance(exit_, Stepped | BreakpointHit)
        seen.append(cpu.clock - before)
        cpu.clear_breakpoint(BREAK)
    assert seen == [10] * 5, "the entry, and nine jumps back"


def test_a_breakpoint_is_reported_once_a_visit(board: Board) -> None:
    cpu, base, exits = board.cpu, base_of(board), list[Exit]()
    cpu.set_breakpoint(BREAK)
    while not exits or not isinstance(exits[-1], Halt):
        exits.append(cpu.run(1000))
    assert exits[:-1] == [BreakpointHit(BREAK - base & 0xFFFFFFFF)] * 10


def test_fault_in_a_block_is_at_its_instruction(board: Board) -> None:
    board.poke(CODE, bytes.fromhex("40 40 a1 00 00 80 00 f4"))  # inc eax; inc eax; mov eax, [0x800000]
    base = base_of(board)
    board.cpu.drop_all_code()
    begin(board, base)
    exit_ = board.cpu.run(1000)
    assert isinstance(exit_, Trap)
    assert (exit_.vector, exit_.eip, exit_.address) == (14, CODE + 2 - base & 0xFFFFFFFF, 0x800000)
    assert board.cpu.context.eax == 2


def test_fetch_fault_behind_a_page_is_at_its_instruction(board: Board) -> None:
    """The last instruction before a missing page straddles into it; those before it have run."""
    last, base = CODE + PAGES * 4096, base_of(board)
    board.poke(last - 4, bytes.fromhex("40 40 b8 01"))
    board.cpu.drop_all_code()
    begin(board, base, last - 4)
    exit_ = board.cpu.run(1000)
    assert isinstance(exit_, Trap)
    assert (exit_.vector, exit_.eip, exit_.address) == (14, last - 2 - base & 0xFFFFFFFF, last)
    assert board.cpu.context.eax == 2
