"""Exception tables: where to go on when an instruction that may fault does (search_exception_table, post 004)."""

from __future__ import annotations

from collections.abc import Sequence


def search(words: Sequence[int], eip: int) -> int | None:
    """The fixup for the instruction at a linear address, or None.

    ``words`` is the table: instruction, fixup, instruction, and so on.  The search is binary, so what it finds in a
    table that is not sorted is left to chance, as in the kernel.
    """
    low, high = 0, len(words) // 2
    while low < high:
        middle = (low + high) // 2
        if words[2 * middle] < eip:
            low = middle + 1
        else:
            high = middle
    return words[2 * low + 1] if 2 * low < len(words) and words[2 * low] == eip else None
