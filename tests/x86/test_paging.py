"""Entries against tables 4-3 to 4-11 of SDM 3A."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.x86 import paging
from sandbox.x86.paging import LEGACY, NX, PAE, EntryBits, describe_entry, is_leaf, reserved_bits, target


def test_bits() -> None:
    assert (paging.P, paging.RW, paging.US, paging.PWT, paging.PCD) == (1, 2, 4, 8, 0x10)
    assert (paging.A, paging.D, paging.PS, paging.G, paging.NX) == (0x20, 0x40, 0x80, 0x100, 1 << 63)
    for name in ("P", "RW", "US", "PWT", "PCD", "A", "D", "PS", "G", "NX"):
        assert getattr(paging, name) == int(EntryBits[name])


def test_formats() -> None:
    assert (LEGACY.entry_size, LEGACY.table_entries, LEGACY.table_shift, LEGACY.large_page) == (4, 1024, 10, 4 << 20)
    assert (PAE.entry_size, PAE.table_entries, PAE.table_shift, PAE.large_page) == (8, 512, 9, 2 << 20)
    assert (LEGACY.frame_mask, LEGACY.cr3_mask, LEGACY.nx) == (0xFFFFF000, 0xFFFFF000, 0)
    assert (PAE.frame_mask, PAE.cr3_mask, PAE.nx) == (0xFF_FFFF_F000, 0xFFFF_FFE0, 1 << 63)
    assert [(each.shift, each.mask, each.entries, each.span) for each in PAE.levels] == [
        (30, 3, 4, 1 << 30),
        (21, 511, 512, 1 << 21),
        (12, 511, 512, 4096),
    ]
    assert (LEGACY.directory.name, LEGACY.table.name) == (PAE.directory.name, PAE.table.name) == ("PDE", "PTE")
    assert [(each.shift, each.mask) for each in LEGACY.levels] == [(22, 1023), (12, 1023)]


def test_frames_of_entries() -> None:
    assert LEGACY.entry(0x12345, 7) == 0x12345007
    assert LEGACY.frame(0x12345007) == PAE.frame(NX | 0x12345007) == 0x12345
    assert PAE.frame(PAE.entry(0x912345, NX | 7)) == 0x912345


@given(st.integers(0, 2**32 - 1))
def test_indices_and_offset_make_the_address_again(linear: int) -> None:
    two = LEGACY.index(0, linear) << 22 | LEGACY.index(1, linear) << 12 | linear & 0xFFF
    three = PAE.index(0, linear) << 30 | PAE.index(1, linear) << 21 | PAE.index(2, linear) << 12 | linear & 0xFFF
    assert two == three == linear


def test_indices_by_hand() -> None:
    assert [LEGACY.index(depth, 0xC0101234) for depth in range(2)] == [768, 0x101]
    assert [PAE.index(depth, 0xC0301234) for depth in range(3)] == [3, 1, 0x101]


@pytest.mark.parametrize(
    ("fmt", "depth", "large", "nxe", "bits"),
    [
        (LEGACY, 0, False, False, []),
        (LEGACY, 0, True, False, [21]),
        (LEGACY, 1, False, False, []),
        (PAE, 0, False, True, [1, 2, 5, 6, 7, 8, *range(40, 64)]),
        (PAE, 1, False, True, [*range(40, 63)]),
        (PAE, 1, False, False, [*range(40, 64)]),
        (PAE, 1, True, True, [*range(13, 21), *range(40, 63)]),
        (PAE, 1, True, False, [*range(13, 21), *range(40, 64)]),
        (PAE, 2, False, True, [*range(40, 63)]),
        (PAE, 2, False, False, [*range(40, 64)]),
    ],
)
def test_reserved_bits(fmt: paging.PagingFormat, depth: int, large: bool, nxe: bool, bits: list[int]) -> None:
    """With MAXPHYADDR 40."""
    assert reserved_bits(fmt, depth, large, nxe) == sum(1 << bit for bit in bits)


def test_leaves() -> None:
    assert is_leaf(LEGACY, 0, 0x83)
    assert not is_leaf(LEGACY, 0, 0x83, pse=False)
    assert is_leaf(PAE, 1, 0x83, pse=False), "2 MB pages need no CR4.PSE (4.4.2)"
    assert not is_leaf(PAE, 0, 0x81)
    assert is_leaf(LEGACY, 1, 3) and is_leaf(PAE, 2, 3)
    assert not is_leaf(LEGACY, 0, 3)


@pytest.mark.parametrize(
    ("fmt", "depth", "entry", "large", "physical"),
    [
        (LEGACY, 1, 0x12345067, False, 0x12345000),
        (LEGACY, 0, 0x004000E3, True, 0x00400000),
        (LEGACY, 0, 0x004020E3, True, 0x1_0040_0000),
        (LEGACY, 0, 0xFFDFE0E3, True, 0xFF_FFC0_0000),
        (LEGACY, 0, 0x004010E3, True, 0x00400000),
        (PAE, 2, 0x8000_00FF_FFFF_F067, False, 0xFF_FFFF_F000),
        (PAE, 1, 0x8000_0001_0020_10E3, True, 0x1_0020_0000),
        (PAE, 0, 0x1_0000_3001, False, 0x1_0000_3000),
    ],
)
def test_target(fmt: paging.PagingFormat, depth: int, entry: int, large: bool, physical: int) -> None:
    """PSE-36 puts address bits 39:32 into entry bits 20:13 (table 4-4); bit 12 of a large entry is PAT."""
    assert target(fmt, depth, entry, large) == physical


@pytest.mark.parametrize(
    ("fmt", "depth", "entry", "text"),
    [
        (LEGACY, 1, 0, "not present"),
        (LEGACY, 1, 0x80, "not present (0x80)"),
        (LEGACY, 1, 0x123067, "P RW US A D  frame 0x123"),
        (LEGACY, 0, 0x123067, "P RW US A  table 0x123"),
        (LEGACY, 0, 0x4001E3, "P RW A D PS G  frame 0x400"),
        (LEGACY, 0, 0x6001E3, "P RW A D PS G reserved=0x200000  frame 0x400"),
        (LEGACY, 1, 0x123081, "P PAT  frame 0x123"),
        (PAE, 0, 0x3001, "P  table 0x3"),
        (PAE, 0, 0x3007, "P reserved=0x6  table 0x3"),
        (PAE, 2, 0x8000000123456865, "P US A D NX  frame 0x123456"),
        (PAE, 1, 0x2010E3, "P RW A D PS PAT  frame 0x200"),
    ],
)
def test_describe(fmt: paging.PagingFormat, depth: int, entry: int, text: str) -> None:
    assert describe_entry(fmt, depth, entry) == text


def test_describe_follows_the_control_registers() -> None:
    assert describe_entry(LEGACY, 0, 0x4000E3, pse=False) == "P RW A  table 0x400"
    assert describe_entry(PAE, 2, NX | 0x1001, nxe=False) == "P reserved=0x8000000000000000  frame 0x1"


@given(st.sampled_from(((LEGACY, 0), (LEGACY, 1), (PAE, 0), (PAE, 1), (PAE, 2))), st.integers(0, 2**64 - 1))
def test_every_entry_can_be_described(at: tuple[paging.PagingFormat, int], entry: int) -> None:
    fmt, depth = at
    entry &= (1 << 8 * fmt.entry_size) - 1
    text = describe_entry(fmt, depth, entry)
    assert text.startswith("not present") == (not entry & 1)
    assert ("frame" in text) == (bool(entry & 1) and is_leaf(fmt, depth, entry))
