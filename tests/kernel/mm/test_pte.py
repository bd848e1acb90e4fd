"""Kinds of entries, against the bit layouts of the manual (SDM 3A, tables 4-6 and 4-11) and of MM 17."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.kernel.mm.pte import MIGRATION, Kind, Pte, decode, migration_entry, swap_entry
from sandbox.x86.paging import NX, RW, US, A, D, P

FORMATS = pytest.mark.parametrize("pae", [False, True], ids=["legacy", "pae"])


def test_the_table() -> None:
    assert decode(0).kind is Kind.NONE
    assert decode(0x1234000 | P | RW | US | A | D) == Pte(Kind.PRESENT, 0x1234)
    assert decode(0x1234080 | RW | US) == Pte(Kind.PROT_NONE, 0x1234)
    assert decode(0x12_3456_7000 | NX | P) == Pte(Kind.PRESENT, 0x1234567)


@FORMATS
@given(device=st.integers(0, MIGRATION - 1), slot=st.integers(0, (1 << 24) - 1))
def test_swap_entries_come_back(pae: bool, device: int, slot: int) -> None:
    if not device | slot:
        return
    entry = swap_entry(device, slot, pae)
    assert decode(entry) == Pte(Kind.SWAPPED, slot, device)
    assert not entry & (P | 0x80), "hardware must see nothing, and nobody PROT_NONE"
    assert entry < 1 << 64 and (entry < 1 << 32) != pae
    if pae:
        assert not entry & 0xFFFFFFFF, "the lower word alone tells that nothing is there"


@FORMATS
@given(pfn=st.integers(0, (1 << 24) - 1))
def test_migration_entries_keep_the_frame(pae: bool, pfn: int) -> None:
    found = decode(migration_entry(pfn, pae))
    assert (found.kind, found.where) == (Kind.MIGRATING, pfn)


@FORMATS
def test_what_does_not_fit_is_refused(pae: bool) -> None:
    for device, slot in ((32, 1), (-1, 1), (1, 1 << 27), (1, -1), (0, 0)):
        with pytest.raises(ValueError, match="device"):
            swap_entry(device, slot, pae)
