"""Numbers as C (6.4.4.1) writes them, addresses as objdump and we print them."""

import pytest

from sandbox.x86.numbers import parse_address, parse_number


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("10", 10), ("0x1F", 31), ("0X1f", 31), ("010", 8), ("0b101", 5), ("0o17", 15)]
)
def test_numbers(text: str, value: int) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["", "--1", "+1", "1_0", "08", "0x", "1e3", " 1", "\u0663", "0x\u0663", "ten"])
def test_no_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        parse_number(text)


@pytest.mark.parametrize("text", ["-1", "-0x10"])
def test_no_sign(text: str) -> None:
    with pytest.raises(ValueError, match=f"{text} is negative"):
        parse_number(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("08048000", 0x08048000), ("deadBEEF", 0xDEADBEEF), ("12345678", 0x12345678), ("134512640", 0x08048000),
        ("0xffffffff", 0xFFFFFFFF), ("08048000-08049000", 0x08048000), ("0804812d <child+0x9>", 0x0804812D),
    ],
)  # fmt: skip
def test_addresses(text: str, value: int) -> None:
    assert parse_address(text) == value


@pytest.mark.parametrize("text", ["0x100000000", "4294967296", "100000000000"])
def test_past_the_last(text: str) -> None:
    with pytest.raises(ValueError, match="past 4 GB"):
        parse_address(text)
