"""Descriptors and gates against the manual's layouts and well-known values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.x86.descriptors import Gate, GateKind, SegmentDescriptor, Selector

from .manual import GATE, SEGMENT_DESCRIPTOR


@pytest.mark.parametrize(
    ("value", "index", "local", "rpl"),
    [(0x08, 1, False, 0), (0x23, 4, False, 3), (0x0F, 1, True, 3), (0xFFFF, 0x1FFF, True, 3)],
)
def test_selector(value: int, index: int, local: bool, rpl: int) -> None:
    selector = Selector.decode(value)
    assert (selector.index, selector.local, selector.rpl) == (index, local, rpl)
    assert selector.encode() == value


def test_null_is_entry_0_of_the_gdt_with_any_rpl() -> None:
    assert Selector.decode(0).null
    assert Selector.decode(3).null
    assert not Selector.decode(4).null


def test_flat_code_and_data() -> None:
    """The four flat descriptors of every 32-bit kernel."""
    code = SegmentDescriptor.decode(0x00CF9A000000FFFF)
    assert (code.base, code.limit, code.dpl) == (0, 0xFFFFFFFF, 0)
    assert code.present and code.code and code.big and not code.conforming and not code.writable_data
    data = SegmentDescriptor.decode(0x00CFF2000000FFFF)
    assert data.dpl == 3 and data.writable_data and not data.code and not data.system
    for quad in (0x00CF9A000000FFFF, 0x00CF92000000FFFF, 0x00CFFA000000FFFF, 0x00CFF2000000FFFF):
        assert SegmentDescriptor.decode(quad).encode() == quad


def test_base_and_byte_limit_are_scattered() -> None:
    quad = 0x12_4_5_89_345678_6789
    found = SegmentDescriptor.decode(quad)
    assert found.base == 0x12345678
    assert found.limit == 0x56789
    assert found.system and found.type == 9 and found.present
    assert found.encode() == quad


def test_expand_down_is_valid_above_its_limit() -> None:
    down = SegmentDescriptor(0, 0xFFF, 0x0040_9600)
    assert not down.allows(0xFFF, 1)
    assert down.allows(0x1000, 4)
    assert down.allows(0xFFFFFFFC, 4)
    assert not down.allows(0xFFFFFFFD, 4)
    small = SegmentDescriptor(0, 0xFFF, 0x0000_9600)
    assert small.allows(0xFFFC, 4)
    assert not small.allows(0xFFFD, 4)
    up = SegmentDescriptor(0, 0xFFF, 0x0040_9200)
    assert up.allows(0xFFC, 4)
    assert not up.allows(0xFFD, 4)


def test_conforming_code_is_not_expand_down() -> None:
    code = SegmentDescriptor(0, 0xFFF, 0x0040_9E00)
    assert code.conforming
    assert code.allows(0, 0x1000)


@pytest.mark.parametrize(
    ("quad", "kind", "bits", "dpl", "present"),
    [
        (0x00108E0000081234, GateKind.INTERRUPT, 32, 0, True),
        (0x0010EF0000081234, GateKind.TRAP, 32, 3, True),
        (0x0010060000081234, GateKind.INTERRUPT, 16, 0, False),
        (0x0010870000081234, GateKind.TRAP, 16, 0, True),
        (0x0010850000081234, GateKind.TASK, 32, 0, True),
        (0x00108C0000081234, GateKind.CALL, 32, 0, True),
    ],
)
def test_gates(quad: int, kind: GateKind, bits: int, dpl: int, present: bool) -> None:
    gate = Gate.decode(quad)
    assert gate is not None
    assert (gate.kind, gate.bits, gate.dpl, gate.present, gate.selector) == (kind, bits, dpl, present, 8)
    assert gate.offset == (0x101234 if bits == 32 else 0x1234)
    assert bits == 16 or gate.encode() == quad


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 8, 9, 10, 11, 13])
def test_what_is_no_gate(kind: int) -> None:
    assert Gate.decode(0x8000 << 32 | kind << 40) is None
    assert Gate.decode(0x9E00 << 32) is None


@given(st.integers(0, 2**64 - 1))
def test_segment_as_the_figure_has_it(quad: int) -> None:
    figure, found = SEGMENT_DESCRIPTOR.parse(quad.to_bytes(8, "little")), SegmentDescriptor.decode(quad)
    units = figure.limit_19_16 << 16 | figure.limit_15_0
    assert found.base == figure.base_31_24 << 24 | figure.base_23_0
    assert found.limit == (units * 4096 + 4095 if figure.g else units)
    assert (found.type, found.dpl, found.system) == (figure.type, figure.dpl, not figure.s)
    assert (found.present, found.big) == (bool(figure.p), bool(figure.db))


@given(st.integers(0, 2**64 - 1), st.sampled_from((4, 5, 6, 7, 12, 14, 15)))
def test_gate_as_the_figure_has_it(quad: int, kind: int) -> None:
    data = GATE.build({**GATE.parse(quad.to_bytes(8, "little")), "s": 0, "type": kind})
    figure, found = GATE.parse(data), Gate.decode(int.from_bytes(data, "little"))
    assert found is not None
    offset = figure.offset_31_16 << 16 | figure.offset_15_0
    assert found.offset == (offset if found.bits == 32 else figure.offset_15_0)
    assert (found.selector, found.dpl, found.present) == (figure.selector, figure.dpl, bool(figure.p))
    assert found.parameters == (figure.parameters if found.kind is GateKind.CALL else 0)


@given(st.integers(0, 2**64 - 1))
def test_segment_round_trip(quad: int) -> None:
    """Every bit of a descriptor is base, limit or flags."""
    assert SegmentDescriptor.decode(quad).encode() == quad


@given(
    st.builds(
        Gate,
        st.sampled_from((GateKind.CALL, GateKind.INTERRUPT, GateKind.TRAP)),
        st.just(32),
        st.integers(0, 0xFFFF),
        st.integers(0, 0xFFFFFFFF),
        st.integers(0, 3),
        st.booleans(),
    )
)
def test_gate_round_trip(gate: Gate) -> None:
    assert Gate.decode(gate.encode()) == gate


@given(st.integers(0, 0xFFFF))
def test_selector_round_trip(value: int) -> None:
    assert Selector.decode(value).encode() == value


def test_a_call_gate_counts_its_parameters() -> None:
    """Bits 4:0 of the second word (SDM 3A, figure 5-8)."""
    gate = Gate.decode(0x0010EC0400081234)
    assert gate is not None and gate.parameters == 4
    assert gate.encode() == 0x0010EC0400081234


@pytest.mark.parametrize(
    ("quad", "text"),
    [
        (0x00CFFA000000FFFF, "code 32-bit DPL 3, base 0x00000000, limit 0xffffffff"),
        (0x00CF92000000FFFF, "data 32-bit DPL 0, base 0x00000000, limit 0xffffffff"),
        (0x00409E0000000FFF, "conforming code 32-bit DPL 0, base 0x00000000, limit 0x00000fff"),
        (0x0000140000000FFF, "read-only data 16-bit expand-down DPL 0, base 0x00000000, limit 0x00000fff, not present"),
        (0x12008B3456780067, "busy 32-bit TSS DPL 0, base 0x12345678, limit 0x00000067"),
        (0x0000820000000007, "LDT DPL 0, base 0x00000000, limit 0x00000007"),
    ],
)
def test_segments_in_words(quad: int, text: str) -> None:
    assert SegmentDescriptor.decode(quad).describe() == text


def test_gates_in_words() -> None:
    trap, task = Gate.decode(0x0010EF0000081234), Gate.decode(0x0000850000280000)
    assert trap is not None and trap.describe() == "32-bit trap gate to 0x0008:0x00101234, DPL 3"
    assert task is not None and task.describe() == "task gate to TSS 0x0028, DPL 0"
