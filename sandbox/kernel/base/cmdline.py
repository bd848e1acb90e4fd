"""Numbers of the command line and of module parameters, as 2.4.0 reads them (lib/vsprintf.c and lib/cmdline.c)."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"0[xX](?P<hex>[0-9a-fA-F]+)|(?P<octal>0[0-7]*)|(?P<decimal>[0-9]*)")
_SHIFTS = {"k": 10, "m": 20, "g": 30}
_MASK = (1 << 64) - 1


def simple_strtoull(text: str) -> tuple[int, str]:
    """The number that ``text`` begins with, and what comes behind it.

    ``0x`` is hexadecimal, ``0`` octal; it ends at the first other character, and there is no sign.  No digit at all is
    0; more than 64 bits lose the upper ones.
    """
    found = _NUMBER.match(text)
    assert found is not None, "the expression takes the empty text too"
    base = 16 if found["hex"] else 8 if found["octal"] else 10
    digits = found["hex"] or found["octal"] or found["decimal"] or "0"
    value = 0
    for digit in digits:
        value = value * base + int(digit, 16) & _MASK
    return value, text[found.end() :]


def memparse(text: str) -> tuple[int, str]:
    """Bytes, from a number with k, m or g behind it; and what comes behind that."""
    value, rest = simple_strtoull(text)
    shift = _SHIFTS.get(rest[:1].lower(), 0)
    return value << shift & _MASK, rest[1:] if shift else rest


def parameter(text: str) -> int:
    """A module's parameter, as insmod has strtol(3) read it; a sign may be in front.  Raises ValueError for a rest."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    value, rest = simple_strtoull(digits)
    if rest or not digits:
        raise ValueError(text)
    return -value if text[0] == "-" else value
