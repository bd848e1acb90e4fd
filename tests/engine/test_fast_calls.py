"""SYSENTER and SYSCALL, by ``native/system.S``: the engine's own go on at the beginning of the block."""

from __future__ import annotations

import pytest

from sandbox.engine import stubs
from sandbox.engine.exits import Halt, Trap
from tests.engine.board import CODE, STACK, Board

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the host code is for x86-64 Linux")
GP, UD = 13, 6


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.mark.parametrize(("code", "vector"), [("0f34", GP), ("0f05", UD), ("660f34", GP)])
def test_fast_calls_that_nobody_has_armed(board: Board, code: str, vector: int) -> None:
    """IA32_SYSENTER_CS is 0: #GP(0) (SDM 2B, SYSENTER); EFER.SCE is clear: #UD (2B, SYSCALL)."""
    board.poke(CODE, b"\x90\x40" + bytes.fromhex(code) + b"\xf4")
    board.start(CODE)
    exit_ = board.cpu.run(10)
    assert isinstance(exit_, Trap), exit_
    assert (exit_.eip - CODE, exit_.vector, exit_.error_code) == (2, vector, 0)


KERNEL = "8cc88cd39c59f4"
"""MOV EAX, CS; MOV EBX, SS; PUSHFD; POP ECX; HLT"""


@pytest.mark.parametrize("name", ["sysenter", "syscall"])
def test_fast_calls(board: Board, name: str) -> None:
    """From ring 3: CS and SS by the register of the model, flat; IF is cleared (SDM 2B, SYSENTER; APM 3, SYSCALL)."""
    registers = (
        [(0x174, 8, 0), (0x175, STACK + 0x1000, 0), (0x176, CODE + 0x100, 0)]
        if name == "sysenter"
        else [(0x174, 8, 0), (0xC0000080, 1, 0), (0xC0000081, CODE + 0x100, 8)]
    )
    arm = "".join(f"mov ecx, {at:#x}\nmov eax, {low:#x}\nmov edx, {high}\nwrmsr\n" for at, low, high in registers)
    board.load(f"{arm}\nmov edx, {CODE + 0x80:#x}\nmov ecx, {STACK + 0x2000:#x}\nsti\nsysexit", ring=0)
    board.poke(CODE + 0x80, b"\x40\x0f\x34" if name == "sysenter" else b"\x40\x0f\x05")
    board.poke(CODE + 0x100, bytes.fromhex(KERNEL))
    exit_ = board.cpu.run(100)
    state = board.cpu.context
    assert isinstance(exit_, Halt), exit_
    assert (state.eax & 0xFFFF, state.ebx & 0xFFFF) == (8, 16)
    assert not state.ecx & 0x200
    assert state.esp == (STACK + 0x1000 if name == "sysenter" else STACK + 0x2000)
