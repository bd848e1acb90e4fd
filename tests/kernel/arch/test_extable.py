"""The search in an exception table, against a plain look at every entry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandbox.kernel.arch.extable import search

WORDS = st.integers(0, 0xFFFFFFFF)


@given(st.dictionaries(WORDS, WORDS, max_size=40), WORDS)
def test_every_entry_is_found_and_nothing_else(table: dict[int, int], other: int) -> None:
    words = [word for entry in sorted(table.items()) for word in entry]
    for eip in (*table, other):
        assert search(words, eip) == table.get(eip)
