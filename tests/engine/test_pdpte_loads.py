"""MOV CR0, CR3 and CR4 load the PDPTEs: a reserved bit in one that is present is #GP(0), and nothing is changed.

SDM 3A, 4.4.1, and table 4-8 for the bits: 1, 2, 5 to 8, and those from MAXPHYADDR (40 here) up.
"""

from __future__ import annotations

import struct

import pytest

from sandbox.engine import stubs
from sandbox.engine.exits import Halt, Trap
from sandbox.x86.masks import CR0_PAGED, CR0_PROTECTED, CR4_PAE, CR4_SSE
from sandbox.x86.paging import PS, RW, P
from tests.engine.board import Board, assembled

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the check is x86-64 host code")
FIRST, OTHER, DIRECTORIES, CODE = 0x1000, 0x10000, 0x13000, 0x20000
"""Physical: the board's own PDPTEs, those that are tried, their directory, and the code, one to one in all."""
RESERVED = [1, 2, 5, 6, 7, 8, 40, 51, 52, 62, 63]
ALLOWED = [3, 4, 9, 10, 11]
"""PWT, PCD and those that are ignored."""
LOADS = {
    "cr3": (True, "mov eax, 0x10000\nmov cr3, eax"),
    "cr0.pg": (False, "mov eax, cr0\nor eax, 0x80000000\nmov cr0, eax"),
    "cr0.cd": (True, "mov eax, cr0\nor eax, 0x40000000\nmov cr0, eax"),
    "cr4.pge": (True, "mov eax, cr4\nor eax, 0x80\nmov cr4, eax"),
}
"""What is loaded: whether paging is on before, and the instructions."""
NO_LOAD = "mov eax, cr0\nor eax, 8\nmov cr0, eax\nmov eax, cr4\nor eax, 0x200\nmov cr4, eax"
"""CR0.TS and CR4.OSFXSR are not among the bits whose change loads the PDPTEs."""


@pytest.fixture(scope="module")
def board() -> Board:
    return Board(pae=True)


def load(board: Board, text: str, paged: bool, root: int, number: int, entry: int) -> Halt | Trap:
    """Run instructions with one of the four entries at OTHER as given; the first maps 2 MB one to one."""
    struct.pack_into("<4Q", board.memory, OTHER, DIRECTORIES | P, 0, 0, 0)
    struct.pack_into("<Q", board.memory, DIRECTORIES, P | RW | PS)
    struct.pack_into("<Q", board.memory, OTHER + 8 * number, entry if number else entry | DIRECTORIES)
    code = assembled(text + "\nhlt", CODE)
    board.memory[CODE : CODE + len(code)] = code
    board.cpu.drop_all_code()
    board.start(CODE, 0)
    state = board.cpu.context
    state.cr3, state.cr4, state.cr0 = root, CR4_SSE | CR4_PAE, CR0_PAGED if paged else CR0_PROTECTED
    exit_ = board.cpu.run(100)
    assert isinstance(exit_, Halt | Trap)
    return exit_


def try_load(board: Board, how: str, number: int, entry: int) -> Halt | Trap:
    paged, text = LOADS[how]
    return load(board, text, paged, FIRST if how == "cr3" else OTHER, number, entry)


@pytest.mark.parametrize("how", LOADS)
@pytest.mark.parametrize("bit", RESERVED)
def test_reserved_bit_is_a_protection_fault(board: Board, how: str, bit: int) -> None:
    for number in range(how in ("cr0.cd", "cr4.pge"), 4):  # with paging on before, the first is in use
        exit_ = try_load(board, how, number, 1 << bit | P)
        assert isinstance(exit_, Trap)
        assert (exit_.vector, exit_.error_code) == (13, 0), (number, exit_)
        state = board.cpu.context
        assert board.memory[exit_.eip : exit_.eip + 2] == b"\x0f\x22", "at the MOV"
        assert (state.cr3 == OTHER) == (how != "cr3")
        assert bool(state.cr0 & 0x80000000) == LOADS[how][0]
        assert not state.cr0 & 0x40000000
        assert not state.cr4 & 0x80


@pytest.mark.parametrize("how", LOADS)
def test_what_is_allowed_is_loaded(board: Board, how: str) -> None:
    """Bits that are not reserved, and any bit in an entry that is not present."""
    for bit in ALLOWED:
        assert isinstance(try_load(board, how, 0, 1 << bit | P), Halt), bit
    for bit in RESERVED:
        assert isinstance(try_load(board, how, 3, 1 << bit), Halt), bit


def test_loads_that_change_none_of_the_bits_do_not_look(board: Board) -> None:
    assert isinstance(load(board, NO_LOAD, True, OTHER, 3, 1 << 5 | P), Halt)
