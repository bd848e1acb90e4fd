"""Every register of a saved state: what Python sets the guest reads, and what the guest sets Python reads."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest

from sandbox.engine import context as ctx
from sandbox.engine.context import CpuContext, SegmentState
from sandbox.engine.exits import Halt, Trap
from tests.engine.board import CODE, DATA, KERNEL_DATA, STACK, Board

NAMES = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
FLAGS = {"cf": 0, "pf": 2, "af": 4, "zf": 6, "sf": 7, "df": 10, "of": 11}
PI = bytes.fromhex("35c26821a2da0fc90040")
"""What FLDPI leaves: 0x4000C90FDAA22168C235 (SDM 1, 8.3.8, rounded to nearest)."""


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def state(board: Board) -> CpuContext:
    return board.cpu.context


@pytest.mark.parametrize("name", NAMES)
def test_general_register(board: Board, state: CpuContext, name: str) -> None:
    board.load(f"mov [{DATA:#x}], {name}\nnot {name}\nint 0x80")
    setattr(state, name, 0x1234ABCD)
    board.cpu.run(10)
    assert board.peek(DATA) == 0x1234ABCD
    assert getattr(state, name) == 0xEDCB5432
    assert state.general()[name] == 0xEDCB5432


def test_general_registers_are_32_bits_and_eip_moves(board: Board, state: CpuContext) -> None:
    state.eax = 0x1_2345_6789
    assert state.eax == 0x23456789
    board.poke(CODE + 100, b"\xcd\x80")
    state.eip = CODE + 100
    board.cpu.run(10)
    assert state.eip == CODE + 102


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("value", [0, 1])
def test_flag_to_guest(board: Board, state: CpuContext, flag: str, value: int) -> None:
    board.load("pushf\npop eax\nint 0x80")
    state.eflags = value << FLAGS[flag] | (0 if value else 0x8D5 & ~(1 << FLAGS[flag]))
    board.cpu.run(10)
    assert state.eax >> FLAGS[flag] & 1 == value
    assert state.eflags >> FLAGS[flag] & 1 == value


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("mov al, 0x7f\nadd al, 1", {"of": 1, "sf": 1, "af": 1, "zf": 0, "cf": 0, "pf": 0}),
        ("xor eax, eax", {"of": 0, "sf": 0, "zf": 1, "cf": 0, "pf": 1}),
        ("mov al, 0xff\nadd al, 1", {"of": 0, "sf": 0, "af": 1, "zf": 1, "cf": 1, "pf": 1}),
        ("xor eax, eax\nsub eax, 1", {"of": 0, "sf": 1, "af": 1, "zf": 0, "cf": 1, "pf": 1}),
        ("mov eax, 1\nstc\nsbb eax, 1", {"of": 0, "sf": 1, "af": 1, "zf": 0, "cf": 1, "pf": 1}),
        ("std", {"df": 1}),
        ("std\ncld", {"df": 0}),
    ],
)
@pytest.mark.parametrize("end", ["int 0x80", "mov eax, [0x500000]", "ud2", f"jmp {CODE + 0x1000:#x}"])
def test_flags_from_guest(board: Board, state: CpuContext, code: str, wanted: dict[str, int], end: str) -> None:
    """The flags of SDM 2A, whatever ends the run: the engine keeps them in a lazy form."""
    if end.startswith("jmp"):
        board.unmap(CODE + 0x1000)
    board.run(code + "\n" + end)
    assert {name: state.eflags >> FLAGS[name] & 1 for name in wanted} == wanted
    board.poke(CODE + 0x100, b"\x9c\x58\xcd\x80")
    state.eip = CODE + 0x100
    board.cpu.run(10)
    assert {name: state.eax >> FLAGS[name] & 1 for name in wanted} == wanted


def test_iopl_and_if_are_kept(board: Board, state: CpuContext) -> None:
    board.load("pushf\npop eax\nint 0x80")
    state.eflags = 0x3202
    board.cpu.run(10)
    assert state.eax & 0x3200 == 0x3200
    assert state.eflags == 0x3202


# -- segments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ds", "es", "fs", "gs", "ss"])
def test_segment_base_and_selector(board: Board, state: CpuContext, name: str) -> None:
    board.load(f"mov eax, {name}:[4]\nmov ecx, {name}\nint 0x80")
    board.poke(DATA + 0x104, struct.pack("<I", 0xFEEDF00D))
    state.set_segment(name, 0x2B, DATA + 0x100, 0xFFFFFFFF, 0xCFF300)
    assert state.segment(name) == SegmentState(0x2B, DATA + 0x100, 0xFFFFFFFF, 0xCFF300)
    board.cpu.run(10)
    assert (state.eax, state.ecx) == (0xFEEDF00D, 0x2B)


def test_segment_loaded_by_the_guest(board: Board, state: CpuContext) -> None:
    """MOV to a segment register reads the GDT: selector 0x10 is flat, writable data of DPL 0."""
    board.run(f"mov ax, {KERNEL_DATA}\nmov fs, ax\nhlt", ring=0)
    seen = state.segment("fs")
    assert (seen.selector, seen.base, seen.limit, seen.flags & 0xC09300) == (KERNEL_DATA, 0, 0xFFFFFFFF, 0xC09300)


@pytest.mark.parametrize("ring", [0, 1, 2, 3])
def test_cpl_follows_ss(board: Board, state: CpuContext, ring: int) -> None:
    board.load("mov eax, cs\nlar ecx, eax\nint 0x80")
    state.set_segment("cs", 0x18 | ring, 0, 0xFFFFFFFF, 0xCF9B00 | ring << 13)
    state.set_segment("ss", 0x20 | ring, 0, 0xFFFFFFFF, 0xCF9300 | ring << 13)
    assert state.cpl == ring
    board.cpu.run(10)
    assert state.eax & 3 == ring


def test_16_bit_code_and_stack(board: Board, state: CpuContext) -> None:
    """With B clear, B8 takes a 16-bit immediate and a push moves SP alone (SDM 3A, 3.4.5)."""
    board.load("nop", ring=0)
    board.poke(CODE, bytes.fromhex("b834126a05f4"))
    state.eax = 0xAAAA0000
    state.set_segment("cs", 8, 0, 0xFFFFFFFF, 0x8F9B00)
    state.set_segment("ss", 0x10, STACK, 0xFFFFFFFF, 0x8F9300)
    state.esp = 0xBBBB0100
    assert isinstance(board.cpu.run(10), Halt)
    assert (state.eax, state.esp) == (0xAAAA1234, 0xBBBB00FE)
    assert board.peek(STACK + 0xFE, 2) == 5


@pytest.mark.parametrize("name", ["gdtr", "idtr"])
def test_table_registers(board: Board, state: CpuContext, name: str) -> None:
    board.load(f"s{name[:-1]} [{DATA:#x}]\nl{name[:-1]} [{DATA + 16:#x}]\nhlt", ring=0)
    board.poke(DATA + 16, struct.pack("<HI", 0x7F, 0x6000))
    state.set_segment(name, 0, 0x6800, 0x3F, 0)
    board.cpu.run(10)
    assert (board.peek(DATA, 2), board.peek(DATA + 2)) == (0x3F, 0x6800)
    seen = state.segment(name)
    assert (seen.limit, seen.base) == (0x7F, 0x6000)


def test_task_register_and_ldtr(board: Board, state: CpuContext) -> None:
    board.load("str eax\nsldt ecx\nhlt", ring=0)
    state.set_segment("tr", 0x28, 0x7000, 0x67, 0x8B00)
    state.set_segment("ldtr", 0x30, 0x6800, 0x3F, 0x8200)
    board.cpu.run(10)
    assert (state.eax & 0xFFFF, state.ecx & 0xFFFF) == (0x28, 0x30)
    assert state.segment("tr").flags == 0x8900, "without the busy bit"
    assert state.segment("ldtr") == SegmentState(0x30, 0x6800, 0x3F, 0x8200)


def test_real_mode(board: Board, state: CpuContext) -> None:
    """CR0.PE clear, 16-bit segments at selector * 16 (SDM 3A, 20.1)."""
    board.load("nop", ring=0)
    state.cr0 = 0x10
    for name in ("ds", "es", "ss", "fs", "gs"):
        state.set_segment(name, 0x100, 0x1000 * 8, 0xFFFF, 0x9300)
    state.set_segment("cs", 0x1000, 0x10000, 0xFFFF, 0x9B00)
    board.memory[0x10010:0x10018] = bytes.fromhex("a104008ed08cc8f4")
    board.memory[0x8004:0x8006] = b"\x34\x12"
    state.eip, state.esp = 0x10, 0x100
    exit_ = board.cpu.run(10)
    assert isinstance(exit_, Halt)
    assert state.segment("ss").base == 0x12340, "MOV SS in real mode: base is selector * 16"
    assert state.eax & 0xFFFF == 0x1000


# -- control and debug registers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 2, 3, 4])
def test_control_register(board: Board, state: CpuContext, number: int) -> None:
    value = {0: 0x80010033, 2: 0xDEADB000, 3: 0x1018, 4: 0x690}[number]
    board.load(f"mov eax, cr{number}\nhlt", ring=0)
    setattr(state, f"cr{number}", value)
    board.cpu.run(10)
    assert state.eax == value
    assert getattr(state, f"cr{number}") == value


def test_guest_writes_control_registers(board: Board, state: CpuContext) -> None:
    board.run(
        "mov eax, cr0\nor eax, 2\nmov cr0, eax\nmov eax, 0x690\nmov cr4, eax\nmov eax, 0x1234\nmov cr2, eax\nhlt", 0
    )
    assert (state.cr0 & 2, state.cr4, state.cr2) == (2, 0x690, 0x1234)


@pytest.mark.parametrize(
    ("cr0", "code", "vector"),
    [
        (0x80010033 | 8, "fninit", 7),
        (0x80010033 | 4, "fninit", 7),
        (0x80010033 | 8, "xorps xmm0, xmm0", 7),
        (0x80010033 | 4, "xorps xmm0, xmm0", 6),
        (0x80010033 | 8, "fwait", 7),
        (0x80010031 | 8, "fwait", None),
        (0x80010033, "fninit", None),
    ],
)
def test_cr0_ts_em_mp_reach_the_translator(
    board: Board, state: CpuContext, cr0: int, code: str, vector: int | None
) -> None:
    """#NM and #UD by CR0.EM, MP and TS (SDM 3A, table 9-3 and 13-1)."""
    board.load(code + "\nint 0x80")
    state.cr0 = cr0
    exit_ = board.cpu.run(10)
    assert isinstance(exit_, Trap)
    assert exit_.vector == (0x80 if vector is None else vector)


def test_cr4_osfxsr_and_tsd_reach_the_guest(board: Board, state: CpuContext) -> None:
    board.load("xorps xmm0, xmm0\nint 0x80")
    state.cr4 = 0x10
    assert board.cpu.run(10).vector == 6  # type: ignore[attr-defined]
    board.load("rdtsc\nint 0x80")
    state.cr4 |= 4
    assert board.cpu.run(10).vector == 13  # type: ignore[attr-defined]


def test_efer_nxe() -> None:
    board = Board(pae=True)
    board.load("mov ecx, 0xc0000080\nrdmsr\nhlt", ring=0)
    board.cpu.run(10)
    assert board.cpu.context.eax == 0x800 == board.cpu.context.efer


@pytest.mark.parametrize("number", [0, 1, 2, 3, 6, 7])
def test_debug_register(board: Board, state: CpuContext, number: int) -> None:
    board.load(f"mov eax, dr{number}\nmov ecx, {0x12340000 if number < 4 else 0:#x}\nmov dr{number}, ecx\nhlt", ring=0)
    state.set_debug_register(number, 0x401000 if number < 4 else 0x100)
    board.cpu.run(10)
    fixed = {6: 0xFFFF0FF0, 7: 0x400}.get(number, 0)
    assert state.eax == (0x401000 if number < 4 else 0x100 | fixed)
    assert state.debug_register(number) == (0x12340000 if number < 4 else fixed)


def test_execution_breakpoint_travels_with_its_state(board: Board, state: CpuContext) -> None:
    """DR7 of one state must not stop another one on the same CPU, and works on every CPU (SDM 3B, 17.2.4)."""
    board.load("nop\nnop\nhlt", ring=0)
    other = board.cpu.new_context()
    other.copy_from(state)
    state.set_debug_register(0, CODE + 1)
    state.set_debug_register(7, 1)
    exit_ = board.cpu.run(10)
    assert isinstance(exit_, Trap)
    assert (exit_.vector, exit_.eip, state.debug_register(6) & 0xF) == (1, CODE + 1, 1)
    board.cpu.context = other
    assert isinstance(board.cpu.run(10), Halt)
    second = Board(memory=board.memory, index=1)
    second.cpu.context.copy_from(state)
    second.cpu.context.eip = CODE
    exit_ = second.cpu.run(10)
    assert isinstance(exit_, Trap)
    assert (exit_.vector, exit_.eip) == (1, CODE + 1)


def test_debug_registers_by_the_thousand(board: Board) -> None:
    """States with and without breakpoints in turn, set by the guest too: no dangling breakpoint, no leak."""
    board.load(f"mov eax, {CODE + 40:#x}\nmov dr0, eax\nmov eax, 1\nmov dr7, eax\n.org 40\nnop\nhlt", ring=0)
    contexts = [board.cpu.new_context() for _ in range(4)]
    for number in range(2000):
        board.cpu.context = state = contexts[number * 7 % 4]
        if number % 3 == 0:
            state.copy_from(contexts[(number + 1) % 4])
        state.eip = CODE
        state.eflags = 2
        exit_ = board.cpu.run(10)
        assert isinstance(exit_, Trap)
        assert (exit_.vector, exit_.eip) == (1, CODE + 40)
        if number % 2:
            state.set_debug_register(7, 0)


# -- x87, MMX, SSE ---------------------------------------------------------------------------------------------------


def test_x87_from_the_guest(board: Board, state: CpuContext) -> None:
    board.run("fninit\nfld1\nfldpi\nint 0x80")
    control, status, tags, stack = state.x87()
    assert control == 0x37F
    assert status >> 11 & 7 == 6
    assert tags == 0xC0, "physical registers 6 and 7 are in use"
    assert stack[:2] == [PI, bytes.fromhex("0000000000000080ff3f")]


def test_x87_to_the_guest(board: Board, state: CpuContext) -> None:
    board.load(f"fstp tbyte ptr [{DATA:#x}]\nfstp tbyte ptr [{DATA + 16:#x}]\nfnstsw ax\nint 0x80")
    one = bytes.fromhex("0000000000000080ff3f")
    state.set_x87(0x37F, 6 << 11 | 0x4100, 0xC0, [PI, one] + [bytes(10)] * 6)
    board.cpu.run(10)
    assert board.peek(DATA, 10) == int.from_bytes(PI, "little")
    assert board.peek(DATA + 16, 10) == int.from_bytes(one, "little")
    assert state.eax & 0x7900 == 0x4100, "TOP is 0 again, the condition codes are kept"
    assert state.x87()[2] == 0


@pytest.mark.parametrize(("rounding", "third"), [(0, 0x3EAAAAAB), (1, 0x3EAAAAAA), (2, 0x3EAAAAAB), (3, 0x3EAAAAAA)])
def test_x87_control_word_rounds(board: Board, state: CpuContext, rounding: int, third: int) -> None:
    """1/3 stored as a float under the four rounding modes: nearest, down, up, to zero."""
    board.load(f"fld1\nmov dword ptr [{DATA:#x}], 3\nfidiv dword ptr [{DATA:#x}]\nfstp dword ptr [{DATA:#x}]\nint 0x80")
    state.set_x87(0x37F | rounding << 10, 0, 0, [bytes(10)] * 8)
    board.cpu.run(10)
    assert board.peek(DATA) == third


def test_empty_x87_register_is_a_stack_fault(board: Board, state: CpuContext) -> None:
    """A load onto a register in use overflows the stack: with it masked, the indefinite NaN (SDM 1, 8.5.1.1)."""
    board.load(f"fld1\nfstp tbyte ptr [{DATA:#x}]\nint 0x80")
    state.set_x87(0x37F, 0, 0, [PI] * 8)
    board.cpu.run(10)
    assert board.peek(DATA, 10) == 0x3FFF8000000000000000


@pytest.mark.parametrize("number", range(8))
def test_mmx(board: Board, state: CpuContext, number: int) -> None:
    board.load(f"movq [{DATA:#x}], mm{number}\npaddb mm{number}, mm{number}\nint 0x80")
    state.set_mm(number, bytes(range(1, 9)))
    board.cpu.run(10)
    assert board.peek(DATA, 8) == int.from_bytes(bytes(range(1, 9)), "little")
    assert state.mm(number) == bytes(range(2, 18, 2))
    assert state.x87()[2] == 0xFF, "MMX marks all registers as in use"


@pytest.mark.parametrize("number", range(8))
def test_sse(board: Board, state: CpuContext, number: int) -> None:
    board.load(f"movups [{DATA:#x}], xmm{number}\npaddd xmm{number}, xmm{number}\nint 0x80")
    state.set_xmm(number, struct.pack("<4I", 1, 2, 3, 0x80000001))
    board.cpu.run(10)
    assert board.peek(DATA, 16) == int.from_bytes(struct.pack("<4I", 1, 2, 3, 0x80000001), "little")
    assert state.xmm(number) == struct.pack("<4I", 2, 4, 6, 2)


def test_mxcsr(board: Board, state: CpuContext) -> None:
    board.load(f"stmxcsr [{DATA:#x}]\nldmxcsr [{DATA + 4:#x}]\nint 0x80")
    board.poke(DATA + 4, struct.pack("<I", 0x5F80))
    state.mxcsr = 0x3F80
    assert state.mxcsr == 0x3F80
    board.cpu.run(10)
    assert board.peek(DATA) == 0x3F80
    assert state.mxcsr == 0x5F80


@pytest.mark.parametrize(("rounding", "third"), [(0, 0x3EAAAAAB), (1, 0x3EAAAAAA), (2, 0x3EAAAAAB), (3, 0x3EAAAAAA)])
def test_mxcsr_rounds(board: Board, state: CpuContext, rounding: int, third: int) -> None:
    board.load("divss xmm0, xmm1\nint 0x80")
    state.mxcsr = 0x1F80 | rounding << 13
    state.set_xmm(0, struct.pack("<f12x", 1.0))
    state.set_xmm(1, struct.pack("<f12x", 3.0))
    board.cpu.run(10)
    assert struct.unpack_from("<I", state.xmm(0))[0] == third


def test_fxsave_is_the_instructions(board: Board, state: CpuContext) -> None:
    """The exported image is what FXSAVE stores but for reserved and last-instruction fields (SDM 1, table 10-2)."""
    board.load(f"fninit\nfldpi\nfld1\nmovd xmm3, eax\nfxsave [{DATA:#x}]\nint 0x80")
    state.eax = 0x600DF00D
    board.cpu.run(10)
    stored = board.peek(DATA, 512).to_bytes(512, "little")
    image = state.fxsave()
    for first, end in ((0, 5), (24, 32), *((at, at + 10) for at in range(32, 160, 16)), (160, 288)):
        assert image[first:end] == stored[first:end], first


def test_fxrstor_is_the_instructions(board: Board, state: CpuContext) -> None:
    board.load("fninit\nfldpi\nfld1\nmovd xmm3, eax\nint 0x80")
    board.cpu.run(10)
    image = state.fxsave()
    board.load(f"fxrstor [{DATA:#x}]\nint 0x80")
    board.poke(DATA, image)
    board.cpu.run(10)
    assert state.fxsave() == image
    state.reset_fpu()
    assert state.fxsave() != image
    state.fxrstor(image)
    assert state.fxsave() == image


def test_fxrstor_refuses_reserved_mxcsr(state: CpuContext) -> None:
    image = bytearray(state.fxsave())
    image[26] = 1
    with pytest.raises(ValueError, match="reserved bits"):
        state.fxrstor(bytes(image))


# -- states as a whole -----------------------------------------------------------------------------------------------


def test_reset_is_what_a_kernel_gives(board: Board, state: CpuContext) -> None:
    board.cpu.reset()
    assert state.x87() == (0x37F, 0, 0, [bytes(10)] * 8)
    assert (state.mxcsr, state.eflags, state.cpl, state.eip) == (0x1F80, 2, 0, 0)
    assert all(state.xmm(number) == bytes(16) for number in range(8))


def test_copy_is_the_same_state_on_another_cpu(board: Board, state: CpuContext) -> None:
    board.load("fldpi\nmovd xmm1, eax\nstc\nmov ecx, 5\nint 0x80\nlahf\nfstp st(0)\nint 0x80")
    state.eax = 77
    board.cpu.run(10)
    second = Board(memory=board.memory, index=1)
    second.cpu.context.copy_from(state)
    assert bytes(second.cpu.context.data) == bytes(state.data)
    second.cpu.run(10)
    assert second.cpu.context.eax >> 8 & 1 == 1, "the carry went with it"
    assert second.cpu.context.ecx == 5
    assert second.cpu.context.x87()[2] == 0
    assert state.x87()[3][0] == PI, "the first CPU's state is its own"


def test_system_part_is_copied_alone(board: Board, state: CpuContext) -> None:
    other = board.cpu.new_context()
    other.cr3, other.cr4, other.eax = 0x5000, 0x10, 1
    other.set_segment("tr", 0x30, 0x7100, 0x67, 0x8900)
    state.eax, state.cr4 = 2, 0x610
    state.copy_system_from(other)
    assert (state.cr3, state.cr4, state.eax, state.segment("tr").selector) == (0x5000, 0x10, 2, 0x30)
    assert not state.longs[ctx.HFLAGS32] & ctx.HF_OSFXSR


def test_states_outlive_their_cpu(board: Board, state: CpuContext) -> None:
    state.eax = 5
    board.cpu.close()
    assert state.eax == 5
    assert state.eflags & 2


def test_layout_has_no_overlaps() -> None:
    bounds = sorted(
        [(8 * number, 8) for number in range(8)]
        + [(8 * ctx.EIP, 8), (4 * ctx.EFLAGS32, 8), (4 * ctx.HFLAGS32, 4), (8 * ctx.EFER, 8)]
        + [(8 * slot, 24) for slot in ctx.SEGMENT_SLOTS.values()]
        + [(8 * each, 8) for each in (ctx.CR0, ctx.CR2, ctx.CR3, ctx.CR4)]
        + [(ctx.FPU_TOP, 4), (ctx.FPU_STATUS, 2), (ctx.FPU_CONTROL, 2), (ctx.FPU_TAGS, 8), (ctx.FPU_REGISTERS, 128)]
        + [(ctx.MXCSR, 4), (ctx.XMM, 8 * ctx.XMM_STRIDE), (4 * ctx.ERROR_CODE32, 4), (4 * ctx.IS_SOFTWARE32, 4)]
        + [
            (8 * ctx.NEXT_EIP, 8),
            (8 * ctx.DEBUG_REGISTERS, 64),
            (8 * ctx.BREAKPOINTS, 32),
            (4 * ctx.OLD_EXCEPTION32, 4),
        ]
    )
    assert all(first + size <= second for (first, size), (second, _) in pairwise(bounds))
