"""Vectors against tables 6-1, 6-4 and 6-5 of SDM 3A."""

from __future__ import annotations

import pytest

from sandbox.x86.vectors import Class, Combined, Kind, Vector, combine, describe, exception_class, has_error_code, kind
from sandbox.x86.vectors import makes_double_fault as makes_df

BENIGN = (1, 2, 3, 4, 5, 6, 7, 9, 16, 17, 18, 19)
CONTRIBUTORY = (0, 10, 11, 12, 13, 21)
PAGE_FAULTS = (14, 20)


def test_all_32_exist() -> None:
    assert [int(vector) for vector in Vector] == list(range(32))
    names = ("DE", "DB", "NMI", "BP", "OF", "BR", "UD", "NM", "DF", "CSO", "TS", "NP", "SS", "GP", "PF")
    assert [Vector[name].value for name in names] == list(range(15))
    assert [Vector[name].value for name in ("MF", "AC", "MC", "XM", "VE", "CP")] == list(range(16, 22))


@pytest.mark.parametrize("vector", range(256))
def test_error_codes(vector: int) -> None:
    assert has_error_code(vector) == (vector in (8, 10, 11, 12, 13, 14, 17, 21))


@pytest.mark.parametrize(
    ("of", "vectors"),
    [
        (Kind.TRAP, (3, 4)),
        (Kind.ABORT, (8, 9, 18)),
        (Kind.FAULT, (0, 5, 6, 7, 10, 11, 12, 13, 14, 16, 17, 19, 20, 21)),
        (Kind.FAULT_OR_TRAP, (1,)),
        (Kind.INTERRUPT, (2, 32, 0x80, 255)),
    ],
)
def test_kinds(of: Kind, vectors: tuple[int, ...]) -> None:
    assert {kind(vector) for vector in vectors} == {of}


def test_classes() -> None:
    assert {exception_class(vector) for vector in BENIGN} == {Class.BENIGN}
    assert {exception_class(vector) for vector in CONTRIBUTORY} == {Class.CONTRIBUTORY}
    assert {exception_class(vector) for vector in PAGE_FAULTS} == {Class.PAGE_FAULT}


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        (BENIGN, BENIGN, Combined.SERIAL),
        (BENIGN, CONTRIBUTORY, Combined.SERIAL),
        (BENIGN, PAGE_FAULTS, Combined.SERIAL),
        (CONTRIBUTORY, BENIGN, Combined.SERIAL),
        (CONTRIBUTORY, CONTRIBUTORY, Combined.DOUBLE_FAULT),
        (CONTRIBUTORY, PAGE_FAULTS, Combined.SERIAL),
        (PAGE_FAULTS, BENIGN, Combined.SERIAL),
        (PAGE_FAULTS, CONTRIBUTORY, Combined.DOUBLE_FAULT),
        (PAGE_FAULTS, PAGE_FAULTS, Combined.DOUBLE_FAULT),
        ((8,), BENIGN, Combined.SERIAL),
        ((8,), CONTRIBUTORY, Combined.SHUTDOWN),
        ((8,), PAGE_FAULTS, Combined.SHUTDOWN),
    ],
)
def test_double_fault_table(first: tuple[int, ...], second: tuple[int, ...], result: Combined) -> None:
    for one in first:
        for two in second:
            assert combine(one, two) is result
            assert makes_df(one, two) == (result is Combined.DOUBLE_FAULT)


def test_external_interrupts_combine_with_nothing() -> None:
    for one in (0x20, 0x80):
        for two in range(32):
            assert combine(one, two) is Combined.SERIAL


@pytest.mark.parametrize(
    ("vector", "text"),
    [
        (14, "#PF page fault"),
        (13, "#GP general protection"),
        (2, "NMI"),
        (15, "vector 0xf"),
        (22, "vector 0x16"),
        (0x80, "vector 0x80"),
    ],
)
def test_describe(vector: int, text: str) -> None:
    assert describe(vector) == text
