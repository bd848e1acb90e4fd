"""Expressions: C's values and precedence, memory, names, and one line for whatever is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.debug.expression import address, evaluate
from sandbox.debug.target import Refused


class Fixed:
    """A machine of one register, one symbol, and sixteen bytes at 0x1000."""

    def register(self, name: str) -> int | None:
        return {"esp": 0xBFFFFFF0, "cr3": 0x1023}.get(name)

    def symbol(self, name: str) -> int | None:
        return {"page": 0x1000, "child": 0x8048137}.get(name)

    def memory(self, linear: int, size: int) -> bytes:
        return bytes(range(16))[linear - 0x1000 :][:size] if 0x1000 <= linear < 0x1010 else b""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("10 - 4 - 3", 3), ("1 << 4 | 1", 17), ("7 & 3 == 3", 1),
        ("6 / 4", 1), ("6 % 4", 2),
        ("1 && 0 || 1", 1), ("0 && 1 / 0", 0), ("1 || *0", 1), ("!5", 0), ("!!5", 1), ("~0", 0xFFFFFFFF),
        ("0x10", 16), ("010", 8),
        ("0b101", 5), ("$esp + 4", 0xBFFFFFF4), ("esp", 0xBFFFFFF0), ("$cr3 & ~0xfff", 0x1000), ("page", 0x1000),
        ("*page", 0x03020100), ("byte page + 5", 5), ("byte (page + 5)", 5), ("word (page + 2)", 0x0302),
        ("qword page", 0x0706050403020100), ("<child+0x9>", 0x8048140), ("child+0x9", 0x8048140),
        ("bffffeec", 0xBFFFFEEC),
        ("0804a000", 0x0804A000), ("08048140 + 1", 0x08048141), ("1 < 2", 1), ("2 <= 1", 0), ("3 != 3", 0),
        ("5 ^ 1", 4),
    ],
)  # fmt: skip
def test_values(text: str, value: int) -> None:
    assert evaluate(text, Fixed()) == value


@pytest.mark.parametrize(
    "text",
    [
        "", "1 +", "(1", "1)", "nowhere", "$nothing", "*0", "1 / 0", "1 % 0", "\x00", "1 2", "page page", "()",
        "((((", "-" * 500 + "1",
        "(" * 5000 + "1", "0x", "09", "99999999999999999999", "é", "1 = 2", "<", "<child", "byte", "byte 0x1010",
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(text: str) -> None:
    with pytest.raises(Refused) as found:
        evaluate(text, Fixed())
    assert found.value.summary
    assert "\n" not in found.value.summary


def test_an_empty_one_is_not_called_nothing() -> None:
    with pytest.raises(Refused, match=r"^an address or a number is missing$"):
        evaluate("", Fixed())


def test_addresses_end_at_4_gb() -> None:
    assert address("0xffffffff", Fixed()) == 0xFFFFFFFF
    for text in ("0xffffffff + 1", "0 - 1", "1 << 40"):
        with pytest.raises(Refused):
            address(text, Fixed())


@given(st.text(alphabet="()+-*/%&|^~!<>=$ 0189abcdefxpage\x00\"'", max_size=40))
def test_anything_is_a_value_or_refused(text: str) -> None:
    try:
        assert 0 <= evaluate(text, Fixed()) < 1 << 64
    except Refused as error:
        assert error.summary


OPERATORS = ["+", "-", "*", "&", "|", "^"]


@given(
    st.lists(st.integers(0, 40), min_size=2, max_size=7), st.lists(st.sampled_from(OPERATORS), min_size=6, max_size=6)
)
def test_precedence_is_that_of_another_program(numbers: list[int], signs: list[str]) -> None:
    """Python's: of arithmetic and bits it is C's, and its integers of any size are ours modulo 2^64."""
    text = " ".join(f"{n} {sign}" for n, sign in zip(numbers, signs, strict=False)).rpartition(" ")[0]
    assert evaluate(text, Fixed()) == eval(text) & (1 << 64) - 1


def test_precedence_of_shifts() -> None:
    for text in ("1 + 2 << 3", "1 << 2 + 3", "1 << 3 & 12", "7 ^ 1 << 1", "1 | 2 << 1 << 1", "256 >> 2 - 1"):
        assert evaluate(text, Fixed()) == eval(text)
