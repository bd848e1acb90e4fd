"""printk's formats, beside the host's own printf."""

from __future__ import annotations

import ctypes
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.kernel.base.printk import LOG_BYTES, Log
from sandbox.kernel.module.printk import WIDEST, format_text
from tests.kernel.mm.machines import boot_system

LIBC = ctypes.CDLL(None)


def expected(text: bytes, *arguments: object) -> bytes:
    buffer = ctypes.create_string_buffer(4096)
    LIBC.snprintf(buffer, 4096, text, *arguments)
    return buffer.value


def ours(text: bytes, *arguments: int, strings: dict[int, bytes] | None = None) -> bytes:
    return format_text(text, iter(arguments), (strings or {}).__getitem__)


@given(
    flags=st.text("-+ #0", max_size=3),
    width=st.sampled_from(["", "1", "8", "12"]),
    precision=st.sampled_from(["", ".0", ".3", ".9"]),
    kind=st.sampled_from("diuxXo"),
    value=st.one_of(st.integers(0, 20), st.integers(0, 0xFFFFFFFF)),
)
def test_numbers(flags: str, width: str, precision: str, kind: str, value: int) -> None:
    text = f"[%{flags}{width}{precision}{kind}]".encode()
    assert ours(text, value) == expected(text, ctypes.c_uint32(value))


@given(
    width=st.integers(-12, 12),
    precision=st.integers(-1, 9),
    word=st.binary(max_size=9).map(lambda b: b.replace(b"\0", b"x")),
)
def test_strings(width: int, precision: int, word: bytes) -> None:
    text = b"<%*.*s>"
    given_precision = precision & 0xFFFFFFFF
    assert ours(text, width & 0xFFFFFFFF, given_precision, 5, strings={5: word}) == expected(
        text, width, precision, word
    )


@pytest.mark.parametrize(
    ("text", "arguments", "shown"),
    [(b"%c%c", (65, 66), b"AB"), (b"100%%", (), b"100%"), (b"%p", (0x1234,), b"00001234"), (b"%s", (0,), b"<NULL>"),
     (b"%lx %hd", (7, 8), b"7 8"), (b"%llu", (1, 1), b"4294967297"), (b"%q %d", (9,), b"%q 9"),
     (b"%hd %hhu %td", (0x1FFFF, 0x1FF, 5), b"-1 255 5"), (b"%jx", (1, 2), b"200000001")],
)  # fmt: skip
def test_single_forms(text: bytes, arguments: tuple[int, ...], shown: bytes) -> None:
    assert ours(text, *arguments) == shown


@given(st.binary(max_size=40), st.integers(0, 0xFFFFFFFF))
def test_any_text(text: bytes, word: int) -> None:
    """Every format gives something, whatever the stack holds."""

    def words():
        while True:
            yield word & 0xFF

    said = format_text(text, words(), lambda address: b"?")
    assert isinstance(said, bytes) and (b"%" in text or said == text)


def test_the_log() -> None:
    said: list[bytes] = []
    log = Log()
    log.console = said.append
    assert log.add(b"<4>warning\n") == 8
    assert said == [b"warning\n"]
    log.add(b"x" * LOG_BYTES)
    assert len(log.text) == LOG_BYTES
    assert b"warning" not in log.text


def test_from_guest_code() -> None:
    system = boot_system()
    kernel = system.kernel
    address = kernel.kmalloc.kmalloc(100, 3)
    pfn = address - 0xC0000000
    text = b"<6>%s has %d of %#x\n\0frame\0"
    for at in range(0, len(text), 4):
        (word,) = struct.unpack("<I", text[at : at + 4].ljust(4, b"\0"))
        kernel.this_cpu.call_c(kernel.image.symbols["writel"], word, address + at)
    assert pfn
    assert kernel.this_cpu.call_c(system.gate.symbols["printk"], address, address + 21, 5, 0xFF) == 20
    assert bytes(kernel.log.text) == b"frame has 5 of 0xff\n"


@pytest.mark.parametrize("text", [b"%99999999999999999999d", b"%.99999999999999d", b"%*d", b"%-*d", b"%.*d"])
def test_absurd_widths(text: bytes) -> None:
    assert len(ours(text, 1_000_000_000, 1)) <= WIDEST + 1


def test_a_console_that_takes_no_more() -> None:
    def full(text: bytes) -> None:
        raise OSError(28, "No space left on device")

    log = Log()
    log.console = full
    log.add(b"one")
    log.add(b"two")
    assert bytes(log.text) == b"onetwo"
    assert "No space left" in log.refused
