"""The runner: what it tells of single instructions is what the manual says of them."""

from __future__ import annotations

import pickle
import signal
import struct
from collections.abc import Iterator

import pytest

from sandbox.semantics.host import HostCpu, NoHost, RunnerDied
from sandbox.semantics.vector import (
    CODE,
    DATA,
    HANG,
    READ_ONLY,
    STACK,
    Fault,
    Fpu,
    Vector,
    slot_address,
)

REGISTERS = (1, 2, 3, 0xFFFFFFFF, STACK + 0x1000, 5, 6, DATA)
ONE = bytes.fromhex("0000000000000080ff3f")
TWO = bytes.fromhex("00000000000000800040")


@pytest.fixture(scope="module")
def host() -> Iterator[HostCpu]:
    try:
        made = HostCpu()
    except NoHost as error:
        pytest.skip(error.summary)
    yield made
    made.close()


def vector(code: str, **fields: object) -> Vector:
    made = {"registers": REGISTERS, "eflags": 0x202, "eip": slot_address(0), **fields}
    return Vector("test", bytes.fromhex(code), **made)  # type: ignore[arg-type]


def test_addition_with_flags(host: HostCpu) -> None:
    """1 + FFFFFFFFh: 0 with CF, PF, AF, ZF (SDM 2A, ADD)."""
    (result,) = host.run([vector("01d8")])
    assert result.registers == (0, *REGISTERS[1:])
    assert (result.eflags & 0x8D5, result.fault, result.eip) == (0x55, None, slot_address(0) + 2)


def test_memory_is_told_by_words_and_put_back(host: HostCpu) -> None:
    store = vector("c60705", memory=((DATA, b"abcd"),))
    for _ in range(2):
        (result,) = host.run([store])
        assert result.written == ((DATA, int.from_bytes(b"\x05bcd", "little")),)
    (unchanged,) = host.run([vector("c60761", memory=((DATA, b"abcd"),))])
    assert unchanged.written == ()


@pytest.mark.parametrize(
    ("code", "registers", "fault"),
    [
        ("8b07", (*REGISTERS[:7], 0x1000), Fault(14, 4, 0x1000)),
        ("8907", (*REGISTERS[:7], READ_ONLY + 8), Fault(14, 7, READ_ONLY + 8)),
        ("f7f1", (0, 0, 0, *REGISTERS[3:]), Fault(0)),
        ("0f0b", REGISTERS, Fault(6)),
        ("f4", REGISTERS, Fault(13)),
        ("8ed8", (0x18, *REGISTERS[1:]), Fault(13, 0x18)),
        ("cd06", REGISTERS, Fault(13, 0x32)),
        ("ce", REGISTERS, None),
        ("ebfe", REGISTERS, Fault(HANG)),
    ],
    ids=["read", "write", "divide", "ud2", "hlt", "mov-ds", "int6", "into", "endless"],
)
def test_faults_with_vector_error_code_and_address(
    host: HostCpu, code: str, registers: tuple[int, ...], fault: Fault | None
) -> None:
    (result,) = host.run([vector(code, registers=registers)])
    assert result.fault == fault
    if fault is not None:
        assert (result.eip, result.registers) == (slot_address(0), registers)


@pytest.mark.parametrize(
    ("base", "bit"), [(0xFFFFFF00, 0xAE4A5252), (0xFFFFFF00, 0xB7C4CD8B), (0xFFFFFF00, -0x2000 << 3), (0, 0x40200000)]
)
def test_a_bit_far_from_its_base_finds_nothing_of_ours(host: HostCpu, base: int, bit: int) -> None:
    """The runner's own memory once lay where the kernel puts a program's: BTS there found it, and there was no fault.
    The doubleword is 4 * (offset DIV 32) from the base, the offset being signed (SDM 2A, BT and table 3-2)."""
    signed = (bit & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
    registers = (bit & 0xFFFFFFFF, *REGISTERS[1:7], base)
    (result,) = host.run([vector("0fab07", registers=registers)])
    assert result.fault is not None and result.registers == registers
    assert (result.fault.vector, result.fault.address) == (14, base + 4 * (signed // 32) & 0xFFFFFFFF)


def test_x87_and_sse_state_go_in_and_out(host: HostCpu) -> None:
    """FADD ST, ST(1), then ADDPS of 1.0 and 1.0; C1 0 and nothing inexact."""
    ones = struct.pack("<4f", *[1.0] * 4)
    state = Fpu(0x37F, 3 << 11, 0x18, 0x1F80, ONE + ONE + bytes(60), ones + ones + bytes(96))
    (x87,) = host.run([vector("d8c1", fpu=state)])
    assert x87.fpu is not None and x87.fpu.stack[:20] == TWO + ONE
    assert (x87.fpu.tags, x87.fpu.status, x87.fpu.control) == (0x18, 3 << 11, 0x37F)
    (sse,) = host.run([vector("0f58c1", fpu=state)])
    assert sse.fpu is not None and sse.fpu.xmm[:16] == struct.pack("<4f", *[2.0] * 4)
    assert sse.fpu.mxcsr == 0x1F80


def test_pending_and_unmasked_exceptions(host: HostCpu) -> None:
    """#MF before an FLD with ES set (SDM 1, 8.7); #XM of DIVPS by 0 with ZE unmasked (SDM 1, 11.5)."""
    pending = Fpu(0x37E, 0x8081, 0)
    (mf,) = host.run([vector("d9e8", fpu=pending)])
    assert mf.fault == Fault(16)
    divide = Fpu(mxcsr=0x1D80, xmm=struct.pack("<4f", *[1.0] * 4) + bytes(112))
    (xm,) = host.run([vector("0f5ec1", fpu=divide)])
    assert xm.fault == Fault(19) and xm.fpu is not None and xm.fpu.mxcsr == 0x1D84


def test_more_than_a_batch(host: HostCpu) -> None:
    count = 5000
    vectors = [vector("40", eip=slot_address(at), registers=(at, *REGISTERS[1:])) for at in range(count)]
    assert [result.registers[0] for result in host.run(vectors)] == list(range(1, count + 1))


def test_a_vector_that_takes_the_runner_down_is_named(host: HostCpu) -> None:
    """A system call that ends the process; the next batch has a new runner."""
    good, bad = vector("40"), vector("cd80", registers=(1, 2, 3, 9, *REGISTERS[4:]))
    with pytest.raises(RunnerDied, match="cd 80") as caught:
        host.run([good, bad, good])
    assert caught.value.vector == bad and "status 9" in caught.value.detail
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert host.run([good])[0].registers[0] == 2


def test_what_a_signal_finds_is_not_the_vectors(host: HostCpu) -> None:
    """SIGALRM comes four times a second: a vector of long strings goes on behind it."""
    long = vector("f3ac", registers=(0, 4000, *REGISTERS[2:6], DATA, DATA))
    for result in host.run([long] * 64):
        assert (result.registers[1], result.fault) == (0, None)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL and CODE
