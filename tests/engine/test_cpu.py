"""Every way out of a run: what it says, and what the state is."""

from __future__ import annotations

import ctypes
import mmap
import struct
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from sandbox.engine import stubs
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import (
    BlocksSpent,
    BreakpointHit,
    BusError,
    Exit,
    Halt,
    Paused,
    PortDenied,
    Stepped,
    Stopped,
    Trap,
)
from sandbox.engine.ticks import ticking
from sandbox.engine.worker import run_contained
from sandbox.x86.paging import NX, RW, US, P
from tests.engine.board import CODE, DATA, HOLE, PAGES, STACK, TSS, Board

MISSING = DATA + PAGES * 4096
DEVICE = 0x80000000


@pytest.fixture
def board() -> Board:
    return Board()


def trap(exit_: Exit) -> tuple[int, int, int, int, bool]:
    """Vector, error code, address, offset of EIP in the code, software."""
    assert isinstance(exit_, Trap), exit_
    return exit_.vector, exit_.error_code, exit_.address, exit_.eip - CODE, exit_.software


# -- traps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("nop\nint 0x80", (0x80, 0, 0, 3, True)),
        ("nop\nint3", (3, 0, 0, 2, True)),
        ("mov al, 0x7f\nadd al, 1\ninto", (4, 0, 0, 5, True)),
        ("int 14", (14, 0, 0, 2, True)),
        ("nop\nud2", (6, 0, 0, 1, False)),
        ("xor ecx, ecx\ndiv ecx", (0, 0, 0, 2, False)),
        ("hlt", (13, 0, 0, 0, False)),
        ("nop\ncli", (13, 0, 0, 1, False)),
        ("mov eax, cr0", (13, 0, 0, 0, False)),
        ("mov ax, 0x10\nmov ds, ax", (13, 0x10, 0, 4, False)),
        (f"mov eax, [{MISSING:#x}]", (14, 4, MISSING, 0, False)),
        (f"inc dword ptr [{MISSING:#x}]", (14, 6, MISSING, 0, False)),
        ("mov eax, [0x9000]", (14, 5, 0x9000, 0, False)),
        ("mov byte ptr [0x9000], 1", (14, 7, 0x9000, 0, False)),
        (f"jmp {MISSING:#x}", (14, 4, MISSING, MISSING - CODE, False)),
        (f"bound eax, [{DATA:#x}]", (5, 0, 0, 0, False)),
    ],
)
def test_trap(board: Board, code: str, wanted: tuple[int, int, int, int, bool]) -> None:
    """Vectors and error codes of SDM 3A, table 6-1; a fault's EIP is the instruction, a trap's is behind it."""
    board.load(code)
    board.cpu.context.eax = 5
    assert trap(board.cpu.run(100)) == wanted
    assert board.cpu.context.cpl == 3


def test_single_step_trap(board: Board) -> None:
    board.load("nop\nnop\nint 0x80")
    board.cpu.context.eflags |= 0x100
    assert [trap(board.cpu.run(100))[3] for _ in range(2)] == [1, 2]
    assert board.cpu.context.debug_register(6) & 0x4000, "DR6.BS"


def test_protection_faults() -> None:
    board = Board(pae=True)
    board.map(DATA, P | US | NX, board.physical(DATA))
    assert trap(board.run(f"mov [{DATA:#x}], eax")) == (14, 7, DATA, 0, False)
    assert trap(board.run(f"mov eax, {DATA:#x}\njmp eax")) == (14, 0x15, DATA, DATA - CODE, False)
    assert trap(board.run(f"mov [{DATA:#x}], eax", ring=0)) == (14, 3, DATA, 0, False)


def test_cpl_of_a_trap(board: Board) -> None:
    for ring in (0, 3):
        exit_ = board.run("int 0x80", ring=ring)
        assert isinstance(exit_, Trap)
        assert exit_.cpl == ring


def test_run_goes_on_where_it_left(board: Board) -> None:
    board.load("inc eax\nint 0x80\ninc eax\nint 0x80")
    board.cpu.run(10)
    board.cpu.context.eax += 10
    board.cpu.run(10)
    assert board.cpu.context.eax == 12


def test_halt(board: Board) -> None:
    assert board.run("nop\nhlt\nnop", ring=0) == Halt(CODE + 2)
    board.cpu.context.eip = CODE + 1
    assert board.cpu.run(10) == Halt(CODE + 2)


# -- blocks, steps, breakpoints --------------------------------------------------------------------------------------


def test_blocks_are_counted_down(board: Board) -> None:
    board.load("mov ecx, 100\nagain: loop again\nint 0x80")
    cpu = board.cpu
    before = cpu.clock
    assert cpu.run(10) == BlocksSpent(CODE + 5)
    assert (cpu.clock - before, cpu.context.ecx) == (10, 90)
    assert cpu.run(80) == BlocksSpent(CODE + 5)
    assert (cpu.clock - before, cpu.context.ecx) == (90, 10)
    assert isinstance(cpu.run(80), Trap)
    assert cpu.clock - before == 100


def test_no_blocks_run_nothing(board: Board) -> None:
    board.load("inc eax\nint 0x80")
    assert board.cpu.run(0) == BlocksSpent(CODE)
    assert board.cpu.context.eax == 0


def test_straight_code_comes_back_too(board: Board) -> None:
    """A megabyte of NOPs in a loop over one frame never transfers control, and must not keep the host."""
    frame = board.physical(CODE)
    board.memory[frame : frame + 4096] = b"\x90" * 4096
    table, count = 0x100000, 1024
    for directory in range(8):
        for page in range(count):
            struct.pack_into("<I", board.memory, table + 4 * page, frame | 7)
        struct.pack_into("<I", board.memory, 0x1000 + 4 * (16 + directory), table | 7)
    board.start(16 << 22)
    board.cpu.drop_all_code()
    exit_ = board.cpu.run(10**9)
    assert isinstance(exit_, Paused)
    assert exit_.eip & 0xFFF == 0 or exit_.eip > 16 << 22
    before = board.cpu.clock
    again = board.cpu.run(10**9)
    assert again.eip > exit_.eip
    assert board.cpu.clock == before


def test_steps(board: Board) -> None:
    board.load("mov ecx, 3\nagain: nop\nloop again\nint 0x80")
    cpu = board.cpu
    assert cpu.run(100, steps=2) == Stepped(CODE + 6)
    assert cpu.run(100, steps=1) == Stepped(CODE + 5)
    assert (cpu.instructions, cpu.context.ecx) == (3, 2)
    assert isinstance(cpu.run(100, steps=100), Trap)
    assert cpu.instructions == 1 + 3 * 2 + 1
    assert isinstance(board.run("int 0x80"), Trap)
    assert cpu.instructions == 8, "a free run does not count"


def test_step_of_nothing(board: Board) -> None:
    board.load("inc eax\nint 0x80")
    assert board.cpu.run(10, steps=0) == Stepped(CODE)
    assert (board.cpu.context.eax, board.cpu.instructions) == (0, 0)


def test_breakpoint(board: Board) -> None:
    board.load("mov ecx, 3\nagain: nop\nloop again\nint 0x80")
    cpu = board.cpu
    cpu.set_breakpoint(CODE + 6)
    seen = []
    while isinstance(exit_ := cpu.run(100), BreakpointHit):
        seen.append((exit_.eip - CODE, cpu.context.ecx))
    assert seen == [(6, 3), (6, 2), (6, 1)]
    cpu.clear_breakpoint(CODE + 6)
    cpu.clear_breakpoint(CODE + 6)
    board.start()
    assert isinstance(cpu.run(100), Trap)


def test_breakpoint_on_the_first_instruction(board: Board) -> None:
    board.load("inc eax\nint 0x80")
    board.cpu.set_breakpoint(CODE)
    board.cpu.set_breakpoint(CODE)
    assert board.cpu.run(10) == BreakpointHit(CODE)
    assert isinstance(board.cpu.run(10), Trap)
    assert board.cpu.context.eax == 1


def test_breakpoint_on_a_faulting_instruction_is_reported_once(board: Board) -> None:
    board.load(f"nop\nmov eax, [{MISSING:#x}]\nint 0x80")
    cpu = board.cpu
    cpu.set_breakpoint(CODE + 1)
    assert cpu.run(10) == BreakpointHit(CODE + 1)
    for _ in range(3):
        assert trap(cpu.run(10))[:4] == (14, 4, MISSING, 1)
    board.map(MISSING)
    assert trap(cpu.run(10))[0] == 0x80


def test_breakpoint_and_step_together(board: Board) -> None:
    """An instruction that is only about to run counts in neither order of setting the two."""
    for first in ("steps", "breakpoint"):
        board = Board()
        board.load("mov ecx, 3\nagain: nop\nloop again\nint 0x80")
        cpu = board.cpu
        if first == "steps":
            cpu.run(100, steps=1)
        cpu.set_breakpoint(CODE + 6)
        count = 0
        while not isinstance(exit_ := cpu.run(100, steps=3), Trap):
            count += isinstance(exit_, BreakpointHit)
        assert (cpu.instructions, count) == (8, 3)


def test_blocks_end_before_a_breakpoint_that_was_reported(board: Board) -> None:
    board.load("again: inc eax\njmp again")
    cpu = board.cpu
    cpu.set_breakpoint(CODE)
    assert cpu.run(10) == BreakpointHit(CODE)
    assert cpu.run(0) == BlocksSpent(CODE), "what had been counted ran, and came back to it"
    assert cpu.context.eax == 1
    assert cpu.run(10) == BreakpointHit(CODE)
    assert cpu.context.eax == 1


# -- ports -----------------------------------------------------------------------------------------------------------


class Ports:
    """Records what is asked of it."""

    def __init__(self, board: Board) -> None:
        self.seen: list[tuple[object, ...]] = []
        board.cpu.connect_ports(self.read, self.write)

    def read(self, port: int, size: int) -> int:
        self.seen.append(("in", port, size))
        return 0x11223344

    def write(self, port: int, size: int, value: int) -> None:
        self.seen.append(("out", port, size, value))


def test_ports(board: Board) -> None:
    ports = Ports(board)
    board.run(
        "mov eax, -1\nin al, 0x40\nmov ebx, eax\nmov eax, -1\nmov dx, 0x3f8\nin ax, dx\nmov ecx, eax\nin eax, dx\n"
        "out 0x80, al\nout dx, ax\nout dx, eax\nhlt",
        ring=0,
    )
    state = board.cpu.context
    assert (state.ebx, state.ecx, state.eax) == (0xFFFFFF44, 0xFFFF3344, 0x11223344)
    assert ports.seen == [
        ("in", 0x40, 1),
        ("in", 0x3F8, 2),
        ("in", 0x3F8, 4),
        ("out", 0x80, 1, 0x44),
        ("out", 0x3F8, 2, 0x3344),
        ("out", 0x3F8, 4, 0x11223344),
    ]


def test_string_ports(board: Board) -> None:
    ports = Ports(board)
    board.run(
        f"cld\nmov edi, {DATA:#x}\nmov ecx, 3\nmov dx, 0x60\nrep insb\nmov esi, {DATA:#x}\nmov ecx, 2\nrep outsw\nhlt",
        ring=0,
    )
    assert board.peek(DATA) == 0x00444444
    assert ports.seen == [("in", 0x60, 1)] * 3 + [("out", 0x60, 2, 0x4444), ("out", 0x60, 2, 0x0044)]


@pytest.mark.parametrize("code", ["in al, 0x40", "out 0x40, al", "mov dx, 0x40\nin eax, dx", "rep outsb"])
def test_denied_port_stops_at_the_instruction(board: Board, code: str) -> None:
    """Nothing is transferred, no later instruction runs, and the flags are those of the instruction before."""
    ports = Ports(board)
    text = f"cmp eax, eax\nstc\n{code}\nmov dword ptr [{DATA:#x}], 1\nmov eax, 7\nint 0x80"
    board.load(text)
    state = board.cpu.context
    state.eax, state.ecx, state.esi, state.edx = 0x55, 1, DATA, 0x40
    exit_ = board.cpu.run(10)
    assert isinstance(exit_, PortDenied)
    assert (exit_.port, exit_.write) == (0x40, "out" in code)
    assert exit_.eip - CODE == (7 if "dx," in code else 3)
    assert (board.peek(DATA), state.eax, state.ecx, state.esi) == (0, 0x55, 1, DATA)
    assert state.eflags & 0x41 == 0x41
    assert ports.seen == []
    assert state.eip == exit_.eip


def test_iopl_allows(board: Board) -> None:
    ports = Ports(board)
    board.load("in al, 0x40\nint 0x80")
    board.cpu.context.eflags = 0x3002
    assert trap(board.cpu.run(10))[0] == 0x80
    assert ports.seen == [("in", 0x40, 1)]


def bitmap_gate(board: Board) -> Callable[[Cpu, int, int], bool]:
    """IOPL, then a bit for each byte of the access in the TSS's bitmap (SDM 1, 19.5.2)."""

    def allows(cpu: Cpu, port: int, size: int) -> bool:
        state = cpu.context
        if state.cpl <= state.eflags >> 12 & 3:
            return True
        task = state.segment("tr")
        base = struct.unpack_from("<H", board.memory, task.base + 102)[0]
        at = base + (port >> 3)
        if at + 1 > task.limit:
            return False
        bits = struct.unpack_from("<H", board.memory, task.base + at)[0]
        return not bits >> (port & 7) & (1 << size) - 1

    return allows


@pytest.mark.parametrize(
    ("port", "size", "allowed"), [(0x40, 1, True), (0x41, 1, False), (0x40, 2, False), (0x43, 4, True)]
)
def test_gate_is_asked(board: Board, port: int, size: int, allowed: bool) -> None:
    ports = Ports(board)
    board.cpu.port_gate = bitmap_gate(board)
    register = {1: "al", 2: "ax", 4: "eax"}[size]
    board.load(f"mov dx, {port}\nin {register}, dx\nint 0x80")
    board.cpu.context.set_segment("tr", 0x28, TSS, 0x67 + 0x20, 0x8900)
    struct.pack_into("<H", board.memory, TSS + 102, 0x68)
    board.memory[TSS + 0x68 : TSS + 0x88] = bytes(8) + b"\x02" + bytes(22) + b"\xff"
    exit_ = board.cpu.run(10)
    assert isinstance(exit_, Trap if allowed else PortDenied)
    assert bool(ports.seen) == allowed


# -- memory-mapped devices and addresses that nobody answers ---------------------------------------------------------


class Device:
    """A page of registers that remembers."""

    def __init__(self, board: Board) -> None:
        self.seen: list[tuple[int, ...]] = []
        board.cpu.map_mmio(DEVICE, 0x1000, self.read, self.write)
        board.map(DATA, P | RW | US, DEVICE)

    def read(self, offset: int, size: int) -> int:
        self.seen.append((offset, size))
        return 0x0102030405060708 & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        self.seen.append((offset, size, value))


def test_mmio(board: Board) -> None:
    device = Device(board)
    board.run(
        f"mov al, [{DATA + 1:#x}]\nmov bx, [{DATA + 2:#x}]\nmov ecx, [{DATA + 4:#x}]\nmov byte ptr [{DATA + 8:#x}], 9\n"
        f"mov [{DATA + 12:#x}], ecx\nint 0x80"
    )
    state = board.cpu.context
    assert (state.eax & 0xFF, state.ebx & 0xFFFF, state.ecx) == (8, 0x0708, 0x05060708)
    assert device.seen == [(1, 1), (2, 2), (4, 4), (8, 1, 9), (12, 4, 0x05060708)]


@pytest.mark.parametrize(
    ("code", "write", "size", "at"),
    [
        (f"nop\nmov eax, [{DATA + 8:#x}]", False, 4, 1),
        (f"nop\nmov byte ptr [{DATA + 8:#x}], 1", True, 1, 1),
        (f"inc eax\nadd [{DATA + 8:#x}], eax", False, 4, 1),
        (f"mov edi, {DATA + 8:#x}\nstosw", True, 2, 5),
        (f"mov ecx, {DATA + 8:#x}\njmp ecx", False, 1, DATA + 8 - CODE),
    ],
)
def test_bus_error(board: Board, code: str, write: bool, size: int, at: int) -> None:
    board.map(DATA, P | RW | US, HOLE)
    board.load(code + f"\nmov dword ptr [{DATA + 0x1000:#x}], 1\nint 0x80")
    board.cpu.context.eax = 0x77
    assert board.cpu.run(10) == BusError(CODE + at, HOLE + 8, write, size)
    assert board.cpu.context.eax in (0x77, 0x78)
    assert board.peek(DATA + 0x1000) == 0, "nothing behind the instruction has run"
    board.map(DATA, P | RW | US, 0x9000)
    board.cpu.flush_tlb()
    board.cpu.context.eip = CODE
    assert not isinstance(board.cpu.run(10), BusError)


def test_code_in_a_device(board: Board) -> None:
    """The engine does not execute from a device's memory: a bus error at the fetch."""
    device = Device(board)
    assert board.run(f"jmp {DATA + 16:#x}") == BusError(DATA + 16, DEVICE + 16, False, 1)
    assert device.seen == []


def test_page_table_in_a_hole_reads_as_absent(board: Board) -> None:
    struct.pack_into("<I", board.memory, 0x1000 + 8, HOLE | 7)
    assert trap(board.run("mov eax, [0x800000]"))[:3] == (14, 4, 0x800000)


# -- device callbacks ------------------------------------------------------------------------------------------------


def failing(*_: int) -> int:
    raise LookupError("the device is on fire")


@pytest.mark.parametrize("code", ["in al, 0x40", "out 0x40, al"])
def test_what_a_port_raises_comes_out(board: Board, code: str) -> None:
    board.cpu.connect_ports(failing, failing)  # type: ignore[arg-type]
    with pytest.raises(LookupError, match="on fire"):
        board.run(f"nop\n{code}\nmov dword ptr [{DATA:#x}], 1\nhlt", ring=0)
    assert (board.cpu.context.eip, board.peek(DATA)) == (CODE + 1, 0)
    assert isinstance(board.run("nop\nhlt", ring=0), Halt), "the next run knows nothing of it"


@pytest.mark.parametrize("code", [f"mov eax, [{DATA:#x}]", f"mov [{DATA:#x}], eax"])
def test_what_a_device_raises_comes_out(board: Board, code: str) -> None:
    board.cpu.map_mmio(DEVICE, 0x1000, failing, failing)  # type: ignore[arg-type]
    board.map(DATA, P | RW | US, DEVICE)
    with pytest.raises(LookupError, match="on fire"):
        board.run(f"{code}\njmp 1f\n1: hlt", ring=0)
    assert isinstance(board.run("nop\nhlt", ring=0), Halt)


def test_what_a_gate_raises_comes_out(board: Board) -> None:
    Ports(board)
    board.cpu.port_gate = failing  # type: ignore[assignment]
    with pytest.raises(LookupError, match="on fire"):
        board.run("in al, 0x40\nint 0x80")


def test_keyboard_interrupt_in_a_callback_comes_out(board: Board) -> None:
    def interrupted(*_: int) -> int:
        raise KeyboardInterrupt

    board.cpu.connect_ports(interrupted, lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        board.run("in al, 0x40\nhlt", ring=0)


@pytest.mark.parametrize("stride", [None, 1, 3])
def test_stop_is_at_the_next_transfer_of_control(board: Board, stride: int | None) -> None:
    cpu = board.cpu
    cpu.connect_ports(lambda port, size: 0, lambda port, size, value: cpu.stop())
    board.load("inc ecx\nout 0x80, al\ninc ecx\njmp 1f\nnop\n1: inc ecx\njmp 2f\nnop\n2: inc ecx\nhlt", ring=0)
    before = cpu.clock
    while isinstance(exit_ := cpu.run(100, stride), Stepped):
        pass
    assert exit_ == Stopped(CODE + 7)
    assert (cpu.context.ecx, cpu.clock - before) == (2, 1)
    assert isinstance(cpu.run(100), Halt)
    assert cpu.context.ecx == 4


def test_stop_outside_a_run_does_nothing(board: Board) -> None:
    board.load("hlt", ring=0)
    board.cpu.stop()
    assert isinstance(board.cpu.run(10), Halt)


def test_a_trap_comes_before_a_stop(board: Board) -> None:
    cpu = board.cpu
    cpu.connect_ports(lambda port, size: 0, lambda port, size, value: cpu.stop())
    board.load("out 0x80, al\nud2", ring=0)
    assert trap(cpu.run(100))[0] == 6
    cpu.context.eip = CODE + 4
    board.poke(CODE + 4, b"\xeb\x00\xf4")
    assert isinstance(cpu.run(100), Halt)


# -- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ring", [0, 3])
def test_time_stamp_is_the_clock_by_default(board: Board, ring: int) -> None:
    board.load("rdtsc\nmov ebx, eax\njmp 1f\nnop\n1: rdtsc\nint 0x80", ring=ring)
    board.cpu.clock = 0x2_0000_0000
    board.cpu.run(10)
    state = board.cpu.context
    assert (state.ebx, state.eax, state.edx) == (1, 2, 2)


def test_times_of_entries(board: Board) -> None:
    noted: list[tuple[int, float]] = []
    board.cpu.time_entries(lambda cpl, seconds: noted.append((cpl, seconds)))
    board.run("int 0x80")
    board.run("hlt", ring=0)
    assert [cpl for cpl, _ in noted] == [3, 0]
    assert all(0 < seconds < 1 for _, seconds in noted)


def test_time_stamp_of_the_machine(board: Board) -> None:
    board.cpu.time_stamp = lambda cpu: 0xAAAA_BBBB_CCCC_DDDD
    board.load("mov ecx, -1\nrdtscp\nint 0x80")
    board.cpu.run(10)
    state = board.cpu.context
    assert (state.edx, state.eax, state.ecx) == (0xAAAABBBB, 0xCCCCDDDD, 0)


def test_what_the_time_stamp_raises_comes_out(board: Board) -> None:
    board.cpu.time_stamp = failing  # type: ignore[assignment]
    with pytest.raises(LookupError, match="on fire"):
        board.run("rdtsc\njmp 1f\n1: int 0x80")


# -- what the engine cannot do ---------------------------------------------------------------------------------------


def test_locked_bit_test_of_a_register_is_undefined(board: Board) -> None:
    """SDM 2A, LOCK: #UD with a register destination, and with BT, which is not lockable."""
    for number, code in enumerate((0xA3, 0xAB, 0xB3, 0xBB)):
        board.load("nop")
        board.poke(CODE, bytes([0x41, 0x66, 0xF0, 0x0F, code, 0xC8 + number, 0xCC]))
        assert trap(board.cpu.run(10)) == (6, 0, 0, 1, False)
        assert board.cpu.context.ecx == 1, "the instruction before has run"
    board.load("nop")
    board.poke(CODE, bytes([0xF0, 0x0F, 0xBA, 0xE8, 3]))
    assert trap(board.cpu.run(10)) == (6, 0, 0, 0, False)


def test_call_gate_with_a_broken_task_register(board: Board) -> None:
    """An inter-privilege call needs a task-state segment: #TS with the task register's selector (SDM 3A, 6.15)."""
    struct.pack_into("<Q", board.memory, 0x6030, 0x0000EC0000080000 | CODE & 0xFFFF | (CODE >> 16) << 48)
    for flags, selector in ((0, 0), (0x8200, 0x28)):
        board.load(".byte 0x9a\n.long 0\n.word 0x33")
        board.cpu.context.set_segment("gdtr", 0, 0x6000, 0x37, 0)
        board.cpu.context.set_segment("tr", selector, TSS, 0x67, flags)
        assert trap(board.cpu.run(10)) == (10, selector, 0, 0, False)
    board.cpu.context.set_segment("tr", 0x28, TSS, 0x67, 0x8B00)
    board.cpu.context.eip = CODE
    assert board.cpu.run(1).eip == CODE
    assert board.cpu.context.cpl == 0


_ABORT = """
from sandbox.engine import answers, cpu, mends
mends.choose(mends.STOCK)
from tests.engine.board import CODE, Board
answers._BIT_TESTS = ()
board = Board()
board.load("nop")
board.poke(CODE, bytes([0x41, 0xF0, 0x0F, 0xA3, 0xC8, 0xF4]))
try:
    board.cpu.run(10)
except cpu.EngineAbortError as caught:
    print(caught.eip - CODE, caught.code.hex()[:10], caught.summary)
print(type(board.run("nop\\nhlt", ring=0)).__name__)
"""


def test_an_unknown_abort_is_an_error_that_names_the_instruction() -> None:
    """With the stock engine, whose translator gives up on LOCK BT; and the CPU is still good."""
    done = subprocess.run([sys.executable, "-c", _ABORT], capture_output=True, text=True, check=True)
    caught, after = done.stdout.splitlines()
    assert caught.startswith("1 f00fa3c8f4 ") and "0x00400001: f0 0f a3 c8 f4" in caught
    assert after == "Halt"


def test_two_cpus_share_memory_and_keep_their_own_tlb(board: Board) -> None:
    second = Board(memory=board.memory, index=1)
    frame = board.physical(DATA)
    text = f"mov eax, [{DATA:#x}]\nint 0x80"
    board.poke(DATA, b"\x01")
    for each in (board, second):
        each.load(text)
        each.cpu.run(10)
    board.map(DATA)
    for each, wanted in ((board, 1), (second, 1)):
        each.cpu.context.eip = CODE
        each.cpu.run(10)
        assert each.cpu.context.eax == wanted, "stale, as on hardware"
    board.cpu.flush_tlb()
    board.cpu.context.eip = second.cpu.context.eip = CODE
    board.cpu.run(10)
    second.cpu.run(10)
    assert (board.cpu.context.eax, second.cpu.context.eax) == (0, 1)
    assert frame != board.physical(DATA)


def test_ram_at_four_gigabytes() -> None:
    board = Board(pae=True)
    high = mmap.mmap(-1, 4096)
    board.cpu.map_ram(1 << 32, 4096, ctypes.addressof(ctypes.c_char.from_buffer(high)))
    board.set_entry(DATA, 1 << 32 | P | RW | US)
    board.run(f"mov dword ptr [{DATA:#x}], 0x12345678\nint 0x80")
    assert high[:4] == b"\x78\x56\x34\x12"


def test_stack_is_used(board: Board) -> None:
    board.run("push 5\npop ebx\ncall 1f\n1: pop ecx\nint 0x80")
    state = board.cpu.context
    assert (state.ebx, state.ecx, state.esp) == (5, CODE + 8, STACK + 0x2000)


# -- ticks -----------------------------------------------------------------------------------------------------------


def test_ticks_pause_a_loop_and_leave_its_clock_alone(board: Board) -> None:
    """A loop that would take far longer comes back within a second, again and again; the blocks are the loop's own."""
    rounds = 100_000_000
    board.load(f"mov ecx, {rounds}\n1: dec ecx\njnz 1b\nhlt", ring=0)
    began, pauses, left = time.process_time(), 0, rounds * 2
    with ticking():
        while True:
            before = board.cpu.clock
            exit_ = board.cpu.run(left)
            left -= board.cpu.clock - before
            if not isinstance(exit_, Paused):
                break
            pauses += 1
    assert isinstance(exit_, Halt)
    assert rounds * 2 - left == rounds, "JNZ is taken one time less, and the entry is a block"
    assert pauses or time.process_time() - began < 0.2


def test_ticks_end_with_the_last_who_wants_them(board: Board) -> None:
    with ticking(), ticking():
        pass
    board.load("mov ecx, 30000000\n1: dec ecx\njnz 1b\nhlt", ring=0)
    assert isinstance(board.cpu.run(10**9), Halt)


# -- reset -----------------------------------------------------------------------------------------------------------

SEEN_AFTER_RESET = """
from sandbox.engine.cpu import Cpu
from tests.patience import until
first, second = Cpu(), Cpu()
assert bytes(first.context.data) == bytes(second.context.data)
print([hex(first.context.debug_register(number)) for number in (0, 1, 2, 3, 6, 7)])
"""


def test_first_cpu_of_a_process_is_as_each_later_one() -> None:
    """SDM 3A, table 9-1: DR0 to DR3 are 0, DR6 is FFFF0FF0, DR7 is 400."""
    seen = subprocess.run([sys.executable, "-c", SEEN_AFTER_RESET], capture_output=True, text=True)
    assert seen.stdout == "['0x0', '0x0', '0x0', '0x0', '0xffff0ff0', '0x400']\n", seen.stderr


def test_reset_clears_debug_registers(board: Board) -> None:
    for number in (0, 1, 2, 3, 6, 7):
        board.cpu.context.set_debug_register(number, 0xFFFF & ~0x2000)
    board.load("nop\nmov eax, dr0\nmov ebx, dr3\nmov ecx, dr6\nmov edx, dr7\nhlt", ring=0)
    assert isinstance(board.cpu.run(10), Halt)
    state = board.cpu.context
    assert (state.eax, state.ebx, state.ecx, state.edx) == (0, 0, 0xFFFF0FF0, 0x400)


# -- long blocks -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not stubs.native_host(), reason="blocks are cut by x86-64 host code")
@pytest.mark.parametrize(
    "text", ["fldpi\nfstp st(0)", "fadd st(0), st(0)", f"fld qword ptr [{DATA:#x}]", "fsin", "fld1"]
)
def test_long_lines_of_x87_code_are_translated(text: str) -> None:
    """The translator's 512 temporaries overflowed unnoticed, and the host's process died of it."""

    def work() -> str:
        board = Board()
        return type(board.run(f".rept 1500\n{text}\n.endr\nhlt", ring=0)).__name__

    assert run_contained(work, time_limit=60) == "Halt"


# -- single steps without a hook -------------------------------------------------------------------------------------


def test_steps_between_runs_drop_no_translation(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step costs must not grow with the code that was translated before it."""
    board.load("mov ecx, 100\nagain: inc eax\nloop again\nint 0x80")
    dropped = []
    monkeypatch.setattr(board.cpu, "drop_all_code", lambda: dropped.append(1))
    for _ in range(10):
        assert isinstance(board.cpu.run(100, steps=2), Stepped)
        assert isinstance(board.cpu.run(3), BlocksSpent)
    assert not dropped


@pytest.mark.parametrize("code", ["sti", "mov ax, ss\nmov ss, ax", "push ss\npop ss"])
def test_a_step_leaves_the_interrupt_shadow(code: str) -> None:
    """SDM 3A, 6.8.3: interrupts wait until the end of the instruction behind STI, MOV SS and POP SS."""
    board = Board()
    board.load(f"{code}\nnop\nnop\nhlt", ring=0)
    cpu = board.cpu
    for _ in code.splitlines():
        assert isinstance(cpu.run(100, steps=1), Stepped)
    assert cpu.context.interrupt_shadow
    assert isinstance(cpu.run(100, steps=1), Stepped)
    assert not cpu.context.interrupt_shadow


def test_a_step_to_a_missing_page_leaves_cr2_alone(board: Board) -> None:
    """Its successor's fault is the next run's."""
    board.load(f"jmp {MISSING:#x}")
    board.cpu.context.cr2 = 0x1234
    assert board.cpu.run(10, steps=1) == Stepped(MISSING)
    assert board.cpu.context.cr2 == 0x1234
    assert trap(board.cpu.run(10, steps=1))[:3] == (14, 4, MISSING)
