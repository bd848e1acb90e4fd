"""Numbers that people type: addresses as we print them, and as C writes them."""

from __future__ import annotations

import re

LAST = 0xFFFFFFFF
_PRINTED = re.compile(r"[0-9a-fA-F]{8}", re.ASCII)
_WRITTEN = re.compile(r"0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|[1-9][0-9]*|0", re.ASCII)
_BESIDE = re.compile(r"\s*<[^<>]*>$")


def parse_number(text: str) -> int:
    """A number of C (octal and binary too), without a sign.  Raises ValueError."""
    if text.startswith("-") and _WRITTEN.fullmatch(text[1:]):
        raise ValueError(f"{text} is negative")
    if not _WRITTEN.fullmatch(text):
        raise ValueError(f"{text!r} is not a number")
    octal = re.fullmatch("0[0-7]+", text)
    return int(text, 8) if octal else int(text, 0)


def printed(text: str) -> str:
    """The address in what we print around one: ``0804a000 <page+0x4>``, ``<page+0x4>``, ``0804a000-0804b000``."""
    text = text.strip()
    bare = _BESIDE.sub("", text) or text.strip("<>")
    first, dash, last = bare.partition("-")
    return first if dash and _PRINTED.fullmatch(first) and _PRINTED.fullmatch(last) else bare


def parse_address(text: str) -> int:
    """A linear address.  Eight digits are hexadecimal, as we print them; else it is a number of C.

    Raises ValueError for what is no number, and for one past 4 GB.
    """
    text = printed(text)
    value = int(text, 16) if _PRINTED.fullmatch(text) else parse_number(text)
    if value > LAST:
        raise ValueError(f"{text} is past 4 GB")
    return value
