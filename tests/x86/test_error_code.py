"""Error codes against SDM 3A, 4.7 (figure 4-12) and 6.13 (figure 6-7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.x86.error_code import PageFaultCode, SelectorCode


@pytest.mark.parametrize(("name", "bit"), [("P", 0), ("W", 1), ("U", 2), ("RSVD", 3), ("I", 4), ("PK", 5), ("SS", 6)])
def test_page_fault_bits(name: str, bit: int) -> None:
    assert int(PageFaultCode[name]) == 1 << bit


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0x00, "kernel read not-present"),
        (0x02, "kernel write not-present"),
        (0x03, "kernel write protection"),
        (0x04, "user read not-present"),
        (0x05, "user read protection"),
        (0x06, "user write not-present"),
        (0x07, "user write protection"),
        (0x09, "kernel read reserved-bit"),
        (0x0F, "user write reserved-bit"),
        (0x10, "kernel fetch not-present"),
        (0x15, "user fetch protection"),
        (0x1D, "user fetch reserved-bit"),
    ],
)
def test_page_fault_words(code: int, text: str) -> None:
    assert PageFaultCode(code).describe() == text


def test_repr() -> None:
    assert repr(PageFaultCode(0x1D)) == "PageFaultCode(0x1d: P U RSVD I)"
    assert repr(PageFaultCode(0)) == "PageFaultCode(0x0: none)"
    assert repr(PageFaultCode(0x8007)) == "PageFaultCode(0x8007: P W U 0x8000)"


@given(st.integers(0, 0xFFFF))
def test_selector_code_round_trip(value: int) -> None:
    assert SelectorCode.decode(value).encode() == value
    assert SelectorCode.decode(0xABCD0000 | value).encode() == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0x0000, "no selector"),
        (0x0001, "no selector, external"),
        (0x0028, "GDT selector 0x28"),
        (0x0029, "GDT selector 0x28, external"),
        (0x000C, "LDT selector 0x8"),
        (0x0402, "IDT entry 0x80"),
        (0x0073, "IDT entry 0xe, external"),
        (0x0002, "IDT entry 0x0"),
    ],
)
def test_selector_words(value: int, text: str) -> None:
    assert SelectorCode.decode(value).describe() == text


def test_codes_made_from_a_selector_and_a_vector() -> None:
    assert SelectorCode.of_selector(0x2B).encode() == 0x28
    assert SelectorCode.of_selector(0x0F, external=True).encode() == 0x0D
    assert SelectorCode.of_vector(0x80).encode() == 0x402
    assert SelectorCode.of_vector(13, external=True).encode() == 0x6B


def test_a_fetch_without_nx_is_told_by_the_address() -> None:
    """SDM 3A 4.7: without NX (and SMEP) the I/D flag is 0 for a fetch too; CR2 is then the address in EIP."""
    assert PageFaultCode(0x4).describe_at(0x1000, 0x1000) == "user fetch not-present"
    assert PageFaultCode(0x4).describe_at(0x1000, 0x1004) == "user read not-present"
    assert PageFaultCode(0x6).describe_at(0x1000, 0x1000) == "user write not-present"
    assert PageFaultCode(0x5).describe_at(0x1000, 0x1000) == "user read protection"
    assert PageFaultCode(0x14).describe_at(0x1000, 0x1FFF) == "user fetch not-present"
