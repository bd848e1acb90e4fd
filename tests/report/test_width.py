"""Text in the columns that there are."""

from __future__ import annotations

import pytest

from sandbox.report.width import cut, fit, fit_call, shown, width, wrapped

LONG = 'open("/a/very/long/path/that/nobody/would/ever/type/file.txt", O_RDONLY) = 3'
WORDS = "one two three four five six seven eight nine ten eleven twelve"


@pytest.mark.parametrize("columns", range(1, 90))
def test_nothing_is_wider(columns: int) -> None:
    for line in (LONG, WORDS, "x" * 80, "\x1b[31mkilled\x1b[0m by " + "y" * 70, "f(" + "a, " * 30 + ") = -1 E"):
        for made in (cut(line, columns), fit(line, columns), fit_call(line, columns)):
            assert width(made) <= columns
            assert ("…" in made) == (width(line) > columns)


@pytest.mark.parametrize("columns", range(70, 80))
def test_what_fits_is_left_alone(columns: int) -> None:
    line = "x" * 70
    assert cut(line, columns) == fit(line, columns) == fit_call(line, columns) == wrapped(line, columns)[0] == line


def test_a_long_word_loses_its_middle() -> None:
    made = fit(LONG, 60)
    assert made.startswith('open("/a/very') and made.endswith('file.txt", O_RDONLY) = 3')
    assert len(shown(LONG, 60)) == 1
    assert shown(WORDS, 30) == wrapped(WORDS, 30)
    assert " ".join(line.strip() for line in wrapped(WORDS, 30)) == WORDS


def test_a_number_stays_with_its_sign() -> None:
    assert wrapped("one two three 95 % of these", 16) == ["one two three", "    95 % of", "    these"]


def test_the_result_stays() -> None:
    assert fit_call("f(" + "a, " * 30 + "b) = -1 ENOENT", 40).endswith("… = -1 ENOENT")


def test_colour_takes_no_column_and_ends() -> None:
    made = cut("\x1b[31m" + "x" * 50 + "\x1b[0m", 20)
    assert (width(made), made[-4:]) == (20, "\x1b[0m")
