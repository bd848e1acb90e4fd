"""Which encodings are #UD, and which operands must be aligned: every form against this host's CPU."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from sandbox.engine import context as ctx
from sandbox.engine import mends, stubs
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import BreakpointHit, Trap
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import run_program
from tests.engine import encodings
from tests.engine.encodings import (
    CASES,
    CODE,
    LEGACY,
    ONE,
    PREFIXES,
    SIGBUS,
    SIGILL,
    SIGSEGV,
    THREE,
    TWO,
    UD,
    Guest,
    forms,
)
from tests.hosttools import compiled, native_lines, needs_gcc

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the mends are x86-64 Linux code")

GP, PF, AC = 13, 14, 17


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with needs_gcc():
        return encodings.build(tmp_path_factory.mktemp("encodings"))


@pytest.fixture
def guest() -> Iterator[Guest]:
    made = Guest()
    yield made
    made.close()


@pytest.mark.parametrize("name", CASES)
def test_undefined_where_the_host_says_so(host: Path, guest: Guest, name: str) -> None:
    assert encodings.differing(host, guest, list(forms(*CASES[name]))) == []


@pytest.mark.parametrize(
    "code", ["c5f877", "c4e17c28c1", "c5f1efc1", "c4e27918c0", "c4e2f9f3c8cc", "66c4e278f2c0", "c4e27bf0c101"]
)
def test_vex_without_avx(guest: Guest, code: str) -> None:
    """SDM 2A, 2.3.5: #UD where CPUID does not tell of AVX.  The last three: a VEX.pp, a prefix, that BMI1 has not,
    RORX in another map."""
    assert guest.vector(bytes.fromhex(code)) == UD


@pytest.mark.parametrize("code", ["c4e278f2c1", "c4e278f3cb", "c4e37bf0c101", "c4e27bf6c1"])
def test_vex_of_general_registers(guest: Guest, code: str) -> None:
    """ANDN, BLSR, RORX, MULX: CPUID tells of BMI1 and BMI2, which need no AVX (SDM 2A, 2.6.1)."""
    assert guest.vector(bytes.fromhex(code)) != UD


OUTSIDE = {0x6C, 0x6D, 0x6E, 0x6F, *range(0xE4, 0xE8), *range(0xEC, 0xF0), 0xCA, 0xCD, 0xC8, 0xA0, 0xA2}
"""IN and OUT (the port is asked later), RETF n and INT n, ENTER (its own vectors), absolute addresses."""
OUTSIDE_0F = {0x00, 0x01, 0xA3, 0xAB, 0xB3, 0xBB}
"""SLDT, SGDT and SMSW, which Linux emulates under UMIP; bit strings, whose addresses are elsewhere."""
SIGNALS = {None: 5, 0: 8, 1: 5, 5: SIGSEGV, 11: SIGSEGV, 12: SIGSEGV, GP: SIGSEGV, PF: SIGSEGV, AC: SIGBUS}


def comparable(code: bytes) -> bool:
    opcode = code.lstrip(LEGACY)
    return opcode[0] not in OUTSIDE and not (opcode[0] == 0x0F and opcode[1] in OUTSIDE_0F)


@pytest.mark.parametrize("shift", [1, 2, 4, 8])
def test_misaligned_as_on_this_host(host: Path, shift: int) -> None:
    """In ring 3 with CR0.AM and EFLAGS.AC, all operands so many bytes off: SIGSEGV, SIGBUS or nothing."""
    modrms = tuple(reg << 3 | 3 for reg in range(8))
    rows = forms(ONE, (b"", b"\x66", b"\xf0"), modrms), forms(TWO, PREFIXES, modrms), forms(THREE, (b"", b"\x66"), (3,))
    codes = [code for code in chain(*rows) if comparable(code)]
    signals = [signal for signal, _ in encodings.on_host(host, codes, shift)]
    guest = Guest(shift)
    vectors = [guest.vector(code) for code in codes]
    guest.close()
    defined = [each for each in zip(codes, signals, vectors, strict=True) if each[1] != SIGILL and each[2] != UD]
    assert [(code.hex(), signal, vector) for code, signal, vector in defined if SIGNALS.get(vector) != signal] == []
    assert sum(vector == AC for _, _, vector in defined) > 80


def test_a_program_as_natively(tmp_path: Path) -> None:
    """CMPPS with every immediate, TEST's aliases, SALC, code that writes LOCK into itself and across pages; signals."""
    program = tmp_path / "run"
    source = encodings.SOURCE.with_name("encodings_run.c")
    compiled(
        "gcc", "-m32", "-O1", "-static", "-w", "-fno-pic", "-no-pie", "-fno-stack-protector", "-o", program, source
    )
    native = native_lines(program)
    found = run_program("/tmp/run", program.read_bytes(), (), KernelConfig(time_limit=0))
    assert found.stdout.decode().splitlines() == native


def test_icebp_is_a_trap(guest: Guest) -> None:
    """#DB with EIP behind it, and no check of the gate's DPL (SDM 2A, INT1); prefixes count."""
    for code in (b"\xf1", b"\x66\xf1", b"\x2e\x66\xf1"):
        exit_ = guest.run(code)
        assert isinstance(exit_, Trap)
        assert (exit_.vector, exit_.software, exit_.eip) == (1, False, CODE + 64 + len(code))
    exit_ = guest.run(b"\xcc")
    assert isinstance(exit_, Trap) and (exit_.vector, exit_.software) == (3, True)


def test_rdpmc(guest: Guest) -> None:
    assert guest.vector(b"\x0f\x33") == GP
    guest.run(b"\x90")
    state = guest.cpu.context
    state.cr4 |= 0x100
    state.eip, state.quads[ctx.ECX] = CODE + 64, 1
    guest.memory[CODE][64:66] = b"\x0f\x33"
    guest.cpu.drop_all_code()
    assert not isinstance(guest.cpu.run(1, 1), Trap) and state.eax == 0


def in_block(guest: Guest, code: bytes) -> tuple[int, int]:
    """Vector and offset of what ends a run of code, unstepped."""
    guest.run(b"\x90")
    guest.memory[CODE][64 : 64 + len(code)] = code
    guest.cpu.context.eip = CODE + 64
    guest.cpu.drop_all_code()
    exit_ = guest.cpu.run(100)
    assert isinstance(exit_, Trap)
    return exit_.vector, exit_.eip - CODE - 64


def test_where_the_fault_is(guest: Guest) -> None:
    """At the instruction, whatever is before it in its block; what is behind it is not run."""
    assert in_block(guest, bytes.fromhex("40 40 2e66f00f58c1 40")) == (UD, 2)
    assert guest.cpu.context.eax == encodings.DATA + encodings.MIDDLE + 2


def test_16_bit_code(guest: Guest) -> None:
    """ModR/M and displacements are those of the address size: CMPPS with an immediate of 9, and what is #UD."""

    def run(code: str) -> int | None:
        guest.run(b"\x90")
        state = guest.cpu.context
        state.set_segment("cs", 0x23, CODE, 0xFFFF, 0x00FB00)
        state.set_segment("ds", 0x2B, encodings.DATA, 0xFFFFFFFF, 0xCFF300)
        for number in range(8):
            state.quads[number] = 0x4000
        state.eip, guest.memory[CODE][64:96] = 64, bytes.fromhex(code).ljust(32, b"\0")
        guest.cpu.drop_all_code()
        exit_ = guest.cpu.run(1, 1)
        return exit_.vector if isinstance(exit_, Trap) else None

    fine = ("0fc2470009", "0fc2060040ff", "0fc2870000ff", "670fc2042009", "0fc2c009")
    assert [run(code) for code in fine] == [None] * 5
    assert guest.cpu.context.eip == 64 + 4
    assert [run(code) for code in ("f090", "0f5007", "f0c6060000", "8fc8", "c5f877")] == [UD] * 5


def test_memory_and_breakpoints_are_what_they_were(guest: Guest) -> None:
    code = bytes.fromhex("90f00f58c1")
    assert in_block(guest, code) == (UD, 1)
    assert guest.cpu.handle.read_code(CODE + 64, 5) == code
    guest.cpu.set_breakpoint(CODE + 65)
    guest.cpu.context.eip = CODE + 64
    assert isinstance(guest.cpu.run(100), BreakpointHit)
    exit_ = guest.cpu.run(100)
    assert isinstance(exit_, Trap) and (exit_.vector, exit_.eip) == (UD, CODE + 65)


def test_the_whole_encoding_is_watched(guest: Guest) -> None:
    """A store into its last byte makes it another instruction: LOCK INC ECX becomes LOCK INC [ECX]."""
    store = bytes.fromhex("c605") + (CODE + 64 + 12).to_bytes(4, "little") + b"\x01"
    head = b"\xeb\x00" + store + b"\x90"
    assert in_block(guest, head + b"\xf0\xff\xc1" + b"\xf1")[0] == 1
    assert guest.memory[encodings.DATA][encodings.MIDDLE] == 1


def test_each_cpu_judges(guest: Guest) -> None:
    other = Cpu(1)
    for at, memory in guest.memory.items():
        other.map_ram(at, encodings.SIZE, encodings.ctypes.addressof(encodings.ctypes.c_char.from_buffer(memory)))
    other.context.copy_from(guest.cpu.context)
    guest.memory[CODE][64:66] = b"\xf0\x90"
    other.context.eip = CODE + 64
    exit_ = other.run(1)
    other.close()
    assert isinstance(exit_, Trap) and exit_.vector == UD


def test_alignment_without_am_or_in_ring_0(guest: Guest) -> None:
    """#AC takes CR0.AM and ring 3; MOVAPS takes neither (SDM 3A, 6.15, interrupt 17; 2A, MOVAPS)."""
    for code, wanted in ((b"\x8b\x03", None), (b"\x0f\x28\x03", GP), (b"\x0f\x10\x03", None)):
        guest.run(b"\x90")
        state = guest.cpu.context
        state.quads[3], state.eip = encodings.DATA + encodings.MIDDLE + 1, CODE + 64
        state.cr0, state.eflags = state.cr0 & ~(1 << 18), state.eflags | 1 << 18
        guest.memory[CODE][64:96] = code.ljust(32, b"\0")
        guest.cpu.drop_all_code()
        exit_ = guest.cpu.run(1, 1)
        assert (exit_.vector if isinstance(exit_, Trap) else None) == wanted


def test_fxrstor_sums_up_exceptions(guest: Guest) -> None:
    """ES and B follow from what was loaded: an exception that is pending, and not masked (SDM 1, 8.1.3.3)."""
    for control, status in ((0x37E, 0x8081), (0x37F, 0x0001)):
        guest.run(b"\x90")
        guest.memory[encodings.DATA][encodings.MIDDLE : encodings.MIDDLE + 4] = control.to_bytes(2, "little") + b"\1\0"
        guest.memory[CODE][64:68] = b"\x0f\xae\x0b\x90"
        guest.cpu.context.eip = CODE + 64
        guest.cpu.drop_all_code()
        guest.cpu.run(1, 2)
        assert guest.cpu.context.x87()[:2] == (control, status)


def test_they_are_among_the_mends() -> None:
    assert mends.install().helpers and {"raise_interrupt", "rdpmc"} <= set(mends.install().helpers)
