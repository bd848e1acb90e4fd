"""Output that a run gives again: shown once, and its errors met again."""

from __future__ import annotations

import os

import pytest

from sandbox.kernel.base.tape import Tape
from sandbox.kernel.drivers.hostoutput import OnceSink


def test_output_is_shown_once() -> None:
    shown: list[bytes] = []
    sink = OnceSink(shown.append, Tape())
    sink(b"abc")
    sink(b"def")
    sink._position = 0  # what a checkpoint knows
    sink(b"abc")
    sink(b"defgh")
    assert b"".join(shown) == b"abcdefgh"


def test_another_future_is_shown() -> None:
    shown: list[bytes] = []
    sink = OnceSink(shown.append, Tape())
    sink(b"abc")
    sink._position = 0
    sink.again()
    sink(b"xyz")
    assert b"".join(shown) == b"abcxyz"


def test_an_error_is_met_again_and_nothing_is_written() -> None:
    calls = []

    def full(data: bytes) -> None:
        calls.append(data)
        raise OSError(28, os.strerror(28))

    tape = Tape()
    sink = OnceSink(full, tape)
    for _ in range(2):
        tape.position = 0
        with pytest.raises(OSError, match="No space left"):
            sink(b"abc")
    assert calls == [b"abc"]
