"""Registers against the bit positions of the manual and values that real systems hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.x86.bits import Bits
from sandbox.x86.masks import DR7_FIXED, STATUS_FLAGS
from sandbox.x86.registers import (
    BreakOn,
    Breakpoint,
    Cr0,
    Cr4,
    Dr6,
    Dr7,
    Efer,
    Eflags,
)

ALL = (Eflags, Cr0, Cr4, Efer, Dr6, Dr7)


@pytest.mark.parametrize(
    ("register", "bits"),
    [
        (Eflags, {"CF": 0, "PF": 2, "AF": 4, "ZF": 6, "SF": 7, "TF": 8, "IF": 9, "DF": 10, "OF": 11, "NT": 14,
                  "RF": 16, "VM": 17, "AC": 18, "VIF": 19, "VIP": 20, "ID": 21}),
        (Cr0, {"PE": 0, "MP": 1, "EM": 2, "TS": 3, "ET": 4, "NE": 5, "WP": 16, "AM": 18, "NW": 29, "CD": 30, "PG": 31}),
        (Cr4, {"VME": 0, "PVI": 1, "TSD": 2, "DE": 3, "PSE": 4, "PAE": 5, "MCE": 6, "PGE": 7, "PCE": 8, "OSFXSR": 9,
               "OSXMMEXCPT": 10, "UMIP": 11, "SMEP": 20, "SMAP": 21}),
        (Efer, {"SCE": 0, "LME": 8, "LMA": 10, "NXE": 11}),
        (Dr6, {"B0": 0, "B3": 3, "BD": 13, "BS": 14, "BT": 15}),
        (Dr7, {"L0": 0, "G0": 1, "L3": 6, "G3": 7, "LE": 8, "GE": 9, "GD": 13}),
    ],
)  # fmt: skip
def test_positions(register: type[Bits], bits: dict[str, int]) -> None:
    assert {name: int(register[name]) for name in bits} == {name: 1 << bit for name, bit in bits.items()}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Cr0(0x8005003B), "Cr0(0x8005003b: PE MP TS ET NE WP AM PG)"),
        (Cr0(0), "Cr0(0x0: none)"),
        (Cr4(0x6F0), "Cr4(0x6f0: PSE PAE MCE PGE OSFXSR OSXMMEXCPT)"),
        (Eflags(0x246), "Eflags(0x246: PF ZF IF)"),
        (Eflags(0x3202), "Eflags(0x3202: IF IOPL=3)"),
        (Efer(0x800), "Efer(0x800: NXE)"),
        (Dr6(0xFFFF4FF1 & 0xFFFF), "Dr6(0x4ff1: B0 BS 0xff0)"),
        (Dr7(0x400), "Dr7(0x400: none)"),
        (Dr7(0x000D0401), "Dr7(0xd0401: L0 0:WRITE/4)"),
    ],
)
def test_repr_tells_the_bits(value: Bits, text: str) -> None:
    assert repr(value) == text


@given(st.sampled_from(ALL), st.integers(0, 2**32 - 1))
def test_every_value_is_kept_and_told(register: type[Bits], value: int) -> None:
    assert int(register(value)) == value
    assert f"{value:#x}" in repr(register(value))


def test_masks_work_on_plain_integers() -> None:
    assert 0x80010000 & Cr0.WP == 0x10000
    assert Cr0.PG | Cr0.PE == 0x80000001
    assert Cr0.WP in Cr0(0x10000)
    assert STATUS_FLAGS == 0x8D5


@pytest.mark.parametrize("level", range(4))
def test_iopl(level: int) -> None:
    assert Eflags(0x202 | level << 12).iopl == level


@given(
    st.lists(
        st.builds(
            Breakpoint,
            st.integers(0, 3),
            st.sampled_from(BreakOn),
            st.sampled_from((1, 2, 4, 8)),
            st.booleans(),
            st.booleans(),
        ),
        unique_by=lambda each: each.number,
    )
)
def test_dr7_round_trip(breakpoints: list[Breakpoint]) -> None:
    register = Dr7.encode(*breakpoints)
    assert int(register) & DR7_FIXED
    for each in breakpoints:
        assert register.breakpoint(each.number) == each


def test_dr7_fields() -> None:
    """SDM 3B, figure 17-1: R/W3 is bits 29:28, LEN3 31:30; LEN 3 means four bytes, 2 means eight."""
    register = Dr7.encode(Breakpoint(3, BreakOn.READ_WRITE, 4, False, True))
    assert register == 0xF0000480
    assert Dr7.encode(Breakpoint(0, BreakOn.EXECUTE, 1, True, False)) == 0x401
    with pytest.raises(ValueError, match="not in tuple"):
        Dr7.encode(Breakpoint(0, BreakOn.WRITE, 3, True, False))
