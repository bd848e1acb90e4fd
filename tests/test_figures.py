"""What ``python -m tests.figures`` counts."""

from __future__ import annotations

from tests import fidelity, figures


def test_lines_count_in_their_places() -> None:
    assert figures.differing(["a", "b"], ["a", "b"]) == 0
    assert figures.differing(["a", "b", "c"], ["a", "x"]) == 2
    assert figures.differing([], ["a"]) == 1


def test_the_page_has_a_row_for_each_program() -> None:
    rows = fidelity.on_page("programs").splitlines()[2:]
    titles = [row.split("|")[1].strip() for row in rows]
    assert titles[1:] == ["bc -l", "awk", "lua", "python"] and titles[0].startswith("functions of libm")
