"""Marks of statements: the interpreter's own tracing says which lines are come to; who is led finds what is deep."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import FrameType, ModuleType
from typing import Any

import pytest

from tests.fuzz import draws, reach

SOURCE = '''
import functools

def read(data):
    """A word of four letters, one after the other."""
    if len(data) > 4:
        return "long"
    found = 0
    for at, each in enumerate(data):
        if each != b"ELF!"[at]:
            break
        found = at + 1
    if found > 0:
        one = True
        if found > 1:
            two = True
            if found > 2:
                three = True
                if found > 3:
                    raise ZeroDivisionError
    return found

class Reader:
    def __init__(self, data):
        self.data = data

    @property
    def size(self):
        return len(self.data)

    @staticmethod
    def plain(data):
        inner = lambda: data
        return inner()

@functools.cache
def kept(number):
    try:
        return 1 // number
    except ZeroDivisionError:
        return None
    finally:
        number = 0
'''


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    name = f"planted_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(name)
    sys.modules.pop(name)


def _lines(module: ModuleType, text: str) -> set[int]:
    """The lines that the interpreter traces."""
    found: set[int] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename == module.__file__:
            found.update({frame.f_lineno} if event == "line" else ())
            return trace
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        eval(text, vars(module))
    finally:
        sys.settrace(before)
    return found


CALLS = ("read(b'abcde')", "read(b'ELx')", "Reader(b'ab').size", "Reader.plain(b'x')", "kept(1)", "kept(0)")


def test_as_many_marks_as_lines(planted: ModuleType) -> None:
    """In this source no line has two statements."""
    traced = [_lines(planted, text) for text in CALLS]
    planted.kept.cache_clear()
    reach.follow(planted.__name__)
    for text, lines in zip(CALLS, traced, strict=True):
        seen = reach.Reached()
        assert seen.call(lambda text=text: eval(text, vars(planted)))  # type: ignore[misc]
        assert abs(len(seen) - len(lines)) <= 1, (text, lines)  # a try is a statement, and no line of its own for both


def test_what_is_followed_does_as_before(planted: ModuleType) -> None:
    before = [eval(each, vars(planted)) for each in CALLS]
    planted.kept.cache_clear()
    reach.follow(planted.__name__)
    assert [eval(each, vars(planted)) for each in CALLS] == before


def test_the_same_is_new_once(planted: ModuleType) -> None:
    reach.follow(planted.__name__)
    seen = reach.Reached()
    assert seen.call(lambda: planted.read(b"E"))
    assert not seen.call(lambda: planted.read(b"E"))
    assert seen.call(lambda: planted.read(b"EL"))
    with pytest.raises(ZeroDivisionError):
        seen.call(lambda: planted.read(b"ELF!"))


def test_who_is_led_finds_what_is_deep(planted: ModuleType) -> None:
    """Four letters are one chance in 4,000 million for who guesses, and 26 statements apart for who is led."""
    reach.follow(planted.__name__)
    draw, seen = Random(1), reach.Reached()
    corpus = [bytes(4)]
    with pytest.raises(ZeroDivisionError):
        for _ in range(20_000):
            data = bytearray(draw.choice(corpus))
            data[draw.randrange(4)] = draw.randrange(256)
            if seen.call(lambda data=bytes(data): planted.read(data)):  # type: ignore[misc]
                corpus.append(bytes(data))


def test_words_of_a_text_are_changed() -> None:
    made = [draws.reword(Random(seed), b"alpha = 12\n", (b"omega",)) for seed in range(50)]
    assert len(set(made)) > 30
    assert any(b"omega" in each for each in made)
