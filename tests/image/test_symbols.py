"""Names and addresses."""

from __future__ import annotations

import pytest

from sandbox.image.symbols import SymbolTable

TABLE = SymbolTable({"_start": 0x1000, "loop": 0x1010, "__bss_start": 0x2000, "page": 0x2000, "Zone": 0x2000})


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0xFFF, None),
        (0x1000, "_start"),
        (0x100F, "_start+0xf"),
        (0x1010, "loop"),
        (0x2000, "page"),
        (0x2004, "page+0x4"),
        (0x2000 + (1 << 20) - 1, "page+0xfffff"),
        (0x2000 + (1 << 20), None),
    ],
)
def test_find(address: int, name: str | None) -> None:
    assert TABLE.find(address) == name


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("loop", 0x1010),
        ("loop+0x10", 0x1020),
        ("loop + 16", 0x1020),
        ("loop-8", 0x1008),
        ("loop+010", 0x101A),
        (" page ", 0x2000),
        ("lost", None),
        ("lost+1", None),
        ("loop+", None),
        ("loop+x", None),
        ("loop+1+1", None),
        ("", None),
    ],
)
def test_address(name: str, address: int | None) -> None:
    assert TABLE.address(name) == address


def test_every_name_that_is_found_leads_back() -> None:
    for address in range(0x1000, 0x2100, 3):
        name = TABLE.find(address)
        assert name is not None
        assert TABLE.address(name) == address


def test_empty() -> None:
    empty = SymbolTable({})
    assert len(empty) == 0
    assert empty.find(0) is None
    assert empty.address("a") is None
    assert empty.items() == []


def test_items_are_in_order() -> None:
    assert TABLE.items() == [
        ("_start", 0x1000), ("loop", 0x1010), ("__bss_start", 0x2000), ("Zone", 0x2000), ("page", 0x2000),
    ]  # fmt: skip


def test_a_symbol_names_no_more_than_it_has() -> None:
    """What lies behind it has no name: a number is an address only where something is."""
    table = SymbolTable({"code": 0x1000, "data": 0x2000}, ends={"code": 0x1010, "data": 0x2004})
    assert [table.find(at) for at in (0x1000, 0x100F, 0x1010, 0x2003, 0x2004)] == [
        "code", "code+0xf", None, "data+0x3", None,
    ]  # fmt: skip
