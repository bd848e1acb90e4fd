"""Numbers as the kernels read them, beside this host's strtoull and strtol."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandbox.kernel.base.cmdline import memparse, parameter, simple_strtoull

LIBC = ctypes.CDLL(None)
LIBC.strtoull.restype = ctypes.c_ulonglong
TAILS = st.text("0123456789abcdefxXkKmMgG_.-+ \u0661\uff11", max_size=12)


def native(text: str) -> tuple[int, str]:
    """strtoull(3) with base 0: the number and what it left."""
    data = ctypes.create_string_buffer(text.encode())
    end = ctypes.c_void_p()
    value = LIBC.strtoull(data, ctypes.byref(end), 0)
    assert end.value is not None
    return value, text.encode()[end.value - ctypes.addressof(data) :].decode()


@given(st.builds("{}{}".format, st.sampled_from("0123456789"), TAILS))
@example("0x")
@example("0xg")
@example("08")
@example("1_6m")
@example("0b1")
@example("040000000")
@example("0X1f")
def test_as_strtoull_reads(text: str) -> None:
    """Signs and blanks aside, which the kernels' function does not know."""
    assert simple_strtoull(text) == native(text)


@pytest.mark.parametrize("text", ["", "+16m", "-1", " 1", "_1", "\u0661"])
def test_no_digit(text: str) -> None:
    """simple_strtoul of 2.0.40 looks at isxdigit of the first character, and has no sign."""
    assert simple_strtoull(text) == (0, text)


@pytest.mark.parametrize(
    ("text", "size", "rest"),
    [("4k", 4096, ""), ("1K2", 1024, "2"), ("010m", 8 << 20, ""), ("0x2g@", 2 << 30, "@"), ("3t", 3, "t"),
     ("18446744073709551616", 0, "")],
)  # fmt: skip
def test_sizes(text: str, size: int, rest: str) -> None:
    """memparse of 2.4.0; 2.4.22 has 64 bits."""
    assert memparse(text) == (size, rest)


@pytest.mark.parametrize(("text", "value"), [("5", 5), ("-5", -5), ("+0x10", 16), ("010", 8)])
def test_parameters(text: str, value: int) -> None:
    assert parameter(text) == value


@pytest.mark.parametrize("text", ["", "-", "1_6", "0b1", "08", "0o7", "\u0661", " 1", "1 ", "+-1"])
def test_what_insmod_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        parameter(text)
