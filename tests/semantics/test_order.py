"""What an instruction changes comes behind what its operand raises: single vectors against this host's CPU."""

from __future__ import annotations

from struct import pack

import pytest

from sandbox.engine import mends, stubs
from sandbox.semantics import campaign
from sandbox.semantics.compare import compare
from sandbox.semantics.host import NoHost, build
from sandbox.semantics.vector import (
    CODE_SELECTOR,
    DATA,
    EBX,
    ECX,
    EDI,
    EDX,
    ESP,
    READ_ONLY,
    STACK,
    Fault,
    Fpu,
    Result,
    Vector,
    slot_address,
)

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the mends are x86-64 Linux code")

MISSING = READ_ONLY + 0x1000
BORDER, TO_MISSING = READ_ONLY - 2, MISSING - 2
DENORMAL, ONE = "01000000000000000000", "0000000000000080ff3f"
FULL = Fpu(tags=0xFF, stack=bytes.fromhex(ONE) * 8)
THIRD = Fpu(tags=0xFF, status=0x1000, stack=bytes.fromhex("abaaaaaaaaaaaaaafd3f") * 8)
"""TOP is 2; a third is inexact as a single."""
PENDING = Fpu(control=0x37E, status=0x8081, tags=0xFF, stack=bytes.fromhex(ONE) * 8)
UNMASKED = Fpu(control=0x340, tags=0xFF, stack=bytes.fromhex(DENORMAL) * 8)
BROKEN = Fpu(tags=3, status=0x800, xmm=bytes.fromhex("ffffbf7f") * 32, mxcsr=0x1F00)
"""XMM registers full of SNaN, IE unmasked."""
PF, GP, MF, XM, UD = 14, 13, 16, 19, 6

CASES = [
    ("mmx load", "movq Pq,Qq", "0f6f07", MISSING, THIRD, PF),
    ("mmx arithmetic", "paddb Pq,Qq", "0ffc07", MISSING, THIRD, PF),
    ("mmx store", "movntq Mq,Pq", "0fe707", READ_ONLY, THIRD, PF),
    ("cvtpi2ps of memory", "cvtpi2ps Vx,Qq", "0f2a07", DATA, THIRD, None),
    ("cvtpi2pd of memory", "cvtpi2pd Vx,Qq", "660f2a07", DATA, THIRD, None),
    ("cvtpi2ps of MMX", "cvtpi2ps Vx,Qq", "0f2ac1", DATA, THIRD, None),
    ("cvtps2pi is #XM in MMX's state", "cvtps2pi Pq,Wq", "0f2dc1", DATA, BROKEN, XM),
    ("cvtps2pi reads eight bytes", "cvtps2pi Pq,Wq", "0f2d07", MISSING - 8, THIRD, None),
    ("cvtps2pd reads eight bytes", "cvtps2pd Vx,Wq", "0f5a07", MISSING - 8, FULL, None),
    ("cvtdq2pd reads eight bytes", "cvtdq2pd Vx,Wq", "f30fe607", MISSING - 8, FULL, None),
    ("roundss reads four bytes", "roundss Vx,Wd", "660f3a0a0700", MISSING - 4, FULL, None),
    ("roundsd reads eight bytes", "roundsd Vx,Wq", "660f3a0b0700", MISSING - 8, FULL, None),
    ("mov to CS", "mov Ev,Gv", "2e8907", DATA, None, GP),
    ("mov to CS with an offset", "mov Ov,EAX", "2ea300001020", DATA, None, GP),
    ("the last prefix counts", "mov Ev,Gv", "2e3e8907", DATA, None, None),
    ("mov from CS", "mov Gv,Ev", "2e8b07", DATA, None, None),
    ("add to CS", "add Ev,Gv", "2e0107", DATA, None, GP),
    ("cmp with CS", "cmp Ev,Gv", "2e3907", DATA, None, None),
    ("sete to CS", "sete Eb", "2e0f9407", DATA, None, GP),
    ("btc in CS", "btc Ev,Ib", "2e0fba3f01", DATA, None, GP),
    ("movups to CS", "movups Wx,Vx", "2e0f1107", DATA, FULL, GP),
    ("movq from CS", "movq Vq,Wq", "2ef30f7e07", DATA, FULL, None),
    ("fst to CS", "fst Md", "2ed917", DATA, THIRD, GP),
    ("#MF before fst to CS", "fst Md", "2ed917", DATA, PENDING, MF),
    ("fst of an inexact value", "fst Md", "d917", MISSING, THIRD, PF),
    ("fstp m80", "fstp Mt", "db3f", MISSING, THIRD, PF),
    ("fbstp", "fbstp Mt", "df37", MISSING, THIRD, PF),
    ("fist of an empty register", "fist Mw", "df17", READ_ONLY, Fpu(), PF),
    ("fst that unmasked DE leaves out", "fst Md", "d917", READ_ONLY, UNMASKED, PF),
    ("fist that unmasked IE leaves out", "fist Mw", "df17", DATA, Fpu(control=0x37E), None),
    ("#MF before #PF", "fld Md", "d907", MISSING, PENDING, MF),
    ("#MF before #GP of null FS", "fadd Mq", "64dc07", DATA, PENDING, MF),
    ("fnstcw does not wait", "fnstcw Mw", "d93f", MISSING, PENDING, PF),
    ("insb", "insb AL", "6c", DATA, None, GP),
    ("insd on a missing page", "insd EAX", "6d", MISSING, None, GP),
    ("rep outsb", "outsb AL", "f36e", MISSING, None, GP),
    ("fnstenv over two pages", "fnstenv M28", "d937", BORDER - 8, THIRD, PF),
    ("fnstenv whose first word crosses", "fnstenv M28", "d937", BORDER, THIRD, PF),
    ("fnsave from read-only to missing", "fnsave M108", "dd37", TO_MISSING - 8, THIRD, PF),
    ("frstor", "frstor M108", "dd27", TO_MISSING - 8, THIRD, PF),
    ("fxsave", "fxsave M512", "0fae07", READ_ONLY - 16, FULL, PF),
    ("fxrstor", "fxrstor M512", "0fae0f", MISSING, FULL, PF),
    ("or that crosses", "or Ev,Gv", "0907", TO_MISSING, None, PF),
    ("bts that crosses", "bts Ev,Gv", "0fab0f", TO_MISSING, None, PF),
    ("bts of another double word that crosses", "bts Ev,Gv", "0fab17", TO_MISSING - 16, None, PF),
    ("btr of a word that crosses", "btr Ev,Gv", "660fb317", MISSING - 17, None, PF),
    ("bt that crosses", "bt Ev,Gv", "0fa30f", TO_MISSING, None, PF),
    ("clflush", "clflush Mb", "0fae3f", MISSING, None, PF),
    ("clflush of what can be read", "clflush Mb", "0fae3f", READ_ONLY, None, None),
    ("clflush by 16 bits", "clflush Mb", "670fae3f", MISSING, None, PF),
    ("fst that is left out, by 16 bits", "fist Mw", "67df15", MISSING, Fpu(control=0x37E), PF),
    ("maskmovdqu with an empty mask", "maskmovdqu Vx,Ux", "660ff7c1", READ_ONLY, FULL, PF),
    ("maskmovdqu that crosses", "maskmovdqu Vx,Ux", "660ff7c1", READ_ONLY - 12, FULL, PF),
    ("maskmovq with an empty mask", "maskmovq Pq,Nq", "0ff7c1", READ_ONLY, FULL, PF),
    ("maskmovq up to a page's end", "maskmovq Pq,Nq", "0ff7c1", READ_ONLY - 8, FULL, None),
    ("xadd that crosses", "xadd Ev,Gv", "0fc107", TO_MISSING, None, PF),
    ("lock before a null segment", "mov Gv,Ev", "f0648b07", DATA, None, UD),
    ("segment register 7", "mov Ew,Sw", "648c3f", DATA, None, UD),
]


STEPPED, CHECKED = 0x302, 0x40202
EMPTY = Fpu(control=0x37E)
CONDITIONS = [
    ("fst that is left out", "fst Md", "d917", DATA, EMPTY, STEPPED, 1),
    ("fistp that is left out, of 8 bytes", "fistp Mq", "df3f", DATA, EMPTY, STEPPED, 1),
    ("fcmovb of an empty register", "fcmovb ST,ST1", "dac1", DATA, Fpu(), STEPPED, 1),
    ("pause", "pause", "f390", DATA, None, STEPPED, 1),
    ("pause of 16 bits", "pause", "66f390", DATA, None, STEPPED, 1),
    ("fst that is left out", "fst Md", "d917", DATA + 2, EMPTY, CHECKED, 17),
    ("fst that is left out, of 8 bytes", "fst Mq", "dd17", DATA + 4, EMPTY, CHECKED, 17),
    ("fist that is left out, of 2 bytes", "fist Mw", "df17", DATA + 2, EMPTY, CHECKED, None),
    ("#MF before #AC", "fadd Md", "d807", DATA + 1, PENDING, CHECKED, MF),
    ("fnstcw does not wait", "fnstcw Mw", "d93f", DATA + 1, PENDING, CHECKED, 17),
    ("maskmovq", "maskmovq Pq,Nq", "0ff7c1", DATA + 4, THIRD, CHECKED, 17),
    ("maskmovdqu wants eight", "maskmovdqu Vx,Ux", "660ff7c1", DATA + 8, FULL, CHECKED, None),
    ("maskmovdqu: #AC before #PF", "maskmovdqu Vx,Ux", "660ff7c1", MISSING + 4, FULL, CHECKED, 17),
]
STACKED = [
    ("enter", "c8000000", STACK + 0x802, 17),
    ("enter whose final ESP is not aligned", "c8020000", STACK + 0x800, 17),
    ("enter of 16 bits", "66c8020000", STACK + 0x802, None),
    ("enter of 16 bits whose final ESP is not", "66c8010000", STACK + 0x802, 17),
    ("enter: #AC before #PF", "c8000000", DATA + 2, 17),
    ("call", "9a000000202300", STACK + 0x802, 17),
    ("call of 16 bits", "669a00002300", STACK + 0x801, 17),
    ("call: #AC before #PF", "9a000000202300", DATA + 2, 17),
    ("call: the selector before #AC", "9a000000202b00", STACK + 0x802, GP),
    ("retf imm to an inner ring", "ca0200", STACK + 0x800, 17),
]


@pytest.mark.parametrize(
    ("form", "code", "at", "fpu", "flags", "fault"),
    [each[1:] for each in CONDITIONS],
    ids=[f"{each[0]}: {'TF' if each[5] == STEPPED else 'AC'}" for each in CONDITIONS],
)
def test_traps_and_alignment(form: str, code: str, at: int, fpu: Fpu | None, flags: int, fault: int | None) -> None:
    """#DB behind each instruction (SDM 3B, 17.3.1.4), #AC before it (3A, 6.15)."""
    assert _vector(alike(form, code, at, fpu, flags)) == fault


@pytest.mark.parametrize(("code", "stack", "fault"), [each[1:] for each in STACKED], ids=[each[0] for each in STACKED])
def test_the_stack_is_aligned(code: str, stack: int, fault: int | None) -> None:
    """The exception alone: on an AMD host the pushes of an ENTER that faults at its final ESP can be seen."""
    taken = pack("<4I", slot_address(0) + 8, 0x20, 0, 0)
    memory = ((stack, taken),) if code.startswith("ca") else ()
    theirs, ours = results("far", code, STACK, None, CHECKED, stack, memory)[1:]
    assert theirs.fault == ours.fault
    assert _vector(theirs.fault) == fault


FAR = [
    ("retf: CS first", "cb", MISSING - 2),
    ("retf whose CS crosses", "cb", MISSING - 6),
    ("retf below the page", "cb", DATA - 4),
    ("retf, 16 bits", "66cb", MISSING - 2),
    ("retf imm", "ca0800", MISSING - 4),
    ("retf to an inner ring reads its stack pointer", "cb", MISSING - 8),
    ("retf imm to an inner ring", "ca0800", MISSING - 12),
    ("retf to no segment", "cb", MISSING - 10),
    ("iret to an inner ring, 16 bits", "66cf", MISSING - 6),
    ("iretd with VM", "cf", MISSING - 12),
    ("iretd: EFLAGS first", "cf", MISSING - 8),
    ("iretd whose EFLAGS cross", "cf", MISSING - 10),
    ("iretd: CS then", "cf", DATA - 8),
    ("iret, 16 bits", "66cf", MISSING - 4),
    ("call whose CS cannot be stored", "9a785634122300", READ_ONLY + 4),
    ("call whose CS crosses", "9a785634122300", READ_ONLY + 2),
    ("call whose EIP crosses", "9a785634122300", DATA + 6),
    ("call to nowhere on a missing stack", "9a785634120000", DATA),
    ("call, 16 bits", "669a34122300", DATA + 2),
]


@pytest.mark.parametrize(("code", "stack"), [each[1:] for each in FAR], ids=[each[0] for each in FAR])
def test_far_calls_and_returns_reach_the_stack_as_the_program(code: str, stack: int) -> None:
    """The error code has U, and CR2 is the host's."""
    try:
        build()
        host, sandbox = campaign.oracles()
    except NoHost as error:
        pytest.skip(error.summary)
    registers = [0x11223344] * 8
    registers[ESP] = stack
    vector = Vector("far", bytes.fromhex(code), slot_address(0), tuple(registers), 0x202, (), None, 0)
    (theirs,), (ours,) = host.run([vector]), sandbox.run([vector])
    assert ours.fault == theirs.fault and theirs.fault is not None


@pytest.mark.parametrize("flags", [0x20202, 0x23202, 0x20A97, 0x20246, 0x202D7])
def test_iret_of_a_program_does_not_enter_v86(flags: int) -> None:
    """VM, IOPL and IF stay as they are, the others are loaded (SDM 2A, IRET: only in ring 0 VM counts).

    Without NT, AC and ID: what runs behind it on the host would have them too.
    """
    try:
        build()
        host, sandbox = campaign.oracles()
    except NoHost as error:
        pytest.skip(error.summary)
    registers = [0x11223344] * 8
    registers[ESP] = STACK + 0x800
    taken = pack("<3I", slot_address(0) + 1, CODE_SELECTOR, flags)
    vector = Vector("iretd", b"\xcf", slot_address(0), tuple(registers), 0x202, ((STACK + 0x800, taken),), None, 0)
    (theirs,), (ours,) = host.run([vector]), sandbox.run([vector])
    assert theirs.fault is None and theirs.registers[ESP] == STACK + 0x80C
    assert compare(vector, theirs, ours) is None


@pytest.mark.parametrize(
    ("form", "code", "at", "fpu", "fault"), [each[1:] for each in CASES], ids=[each[0] for each in CASES]
)
def test_as_on_this_host(form: str, code: str, at: int, fpu: Fpu | None, fault: int | None) -> None:
    """And the exception is the manual's (SDM 3A, 6.9: their order)."""
    assert _vector(alike(form, code, at, fpu)) == fault


def alike(
    form: str,
    code: str,
    at: int,
    fpu: Fpu | None,
    flags: int = 0x202,
    stack: int = STACK + 0x800,
    memory: tuple[tuple[int, bytes], ...] = (),
) -> Fault | None:
    """What the host raises, with which the sandbox agrees in all."""
    vector, theirs, ours = results(form, code, at, fpu, flags, stack, memory)
    assert mends.chosen() == mends.MENDED
    assert compare(vector, theirs, ours) is None
    return theirs.fault


def results(
    form: str, code: str, at: int, fpu: Fpu | None, flags: int, stack: int, memory: tuple[tuple[int, bytes], ...]
) -> tuple[Vector, Result, Result]:
    """A vector with its operand at EBX, ESI and EDI, the host's result and the sandbox's."""
    try:
        build()
        host, sandbox = campaign.oracles()
    except NoHost as error:
        pytest.skip(error.summary)
    registers = [0x11223344] * 8
    registers[EDI], registers[EBX], registers[ECX], registers[EDX] = at, at, 0, 0x80
    registers[6], registers[ESP] = at, stack
    vector = Vector(form, bytes.fromhex(code), slot_address(0), tuple(registers), flags, memory, fpu, at)
    (theirs,), (ours,) = host.run([vector]), sandbox.run([vector])
    return vector, theirs, ours


def test_fxrstor_of_zeros_leaves_bit_6_of_the_control_word() -> None:
    """A reserved bit that is 1 (SDM 1, 8.1.5)."""
    assert alike("fxrstor M512", "0fae0f", DATA, FULL, memory=((DATA, bytes(512)),)) is None


def _vector(fault: Fault | None) -> int | None:
    return None if fault is None else fault.vector
