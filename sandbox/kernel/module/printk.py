"""printk of modules: C's formats over arguments that lie on a stack in guest memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_DIRECTIVE = re.compile(rb"%([-+ #0]*)(\*|\d+)?(?:\.(\*|\d+)?)?(hh|h|ll|l|z|t|j)?([diuxXopcs%])")
_BITS = {b"hh": 8, b"h": 16, b"ll": 64, b"j": 64}
LONGEST_STRING = WIDEST = 1024


def format_text(text: bytes, words: Iterator[int], string: Callable[[int], bytes]) -> bytes:
    """The text with its directives filled in.

    ``words`` gives one argument of 32 bits after the other, ``string`` the bytes at a linear address.  A directive
    that is none stays as it is.
    """

    def fill(match: re.Match[bytes]) -> bytes:
        flags, width_text, precision_text, length, kind = match.groups()
        if kind == b"%":
            return b"%"
        width = _number(width_text, words)
        if width < 0:
            flags, width = flags + b"-", -width
        has_precision = b"." in match.group(0)
        precision = _number(precision_text, words) if has_precision else -1
        value = next(words)
        bits = _BITS.get(length, 32) if kind not in b"csp" else 32
        if bits == 64:
            value |= next(words) << 32
        body = _body(kind, flags, value & (1 << bits) - 1, bits, precision, string)
        pad = b" "
        if b"0" in flags and b"-" not in flags and kind not in b"cs" and precision < 0:
            sign = body[:1] if body[:1] in (b"-", b"+", b" ") else b""
            prefix = body[len(sign) : len(sign) + 2] if body[len(sign) : len(sign) + 2] in (b"0x", b"0X") else b""
            return sign + prefix + body[len(sign) + len(prefix) :].rjust(width - len(sign) - len(prefix), b"0")
        return body.ljust(width, pad) if b"-" in flags else body.rjust(width, pad)

    return _DIRECTIVE.sub(fill, text)


def _number(text: bytes | None, words: Iterator[int]) -> int:
    if text == b"*":
        value = next(words)
        value = value - (1 << 32) if value >> 31 else value
    else:
        value = int(text or b"0")
    return max(-WIDEST, min(value, WIDEST))


def _body(kind: bytes, flags: bytes, value: int, bits: int, precision: int, string: Callable[[int], bytes]) -> bytes:
    if kind == b"c":
        return bytes((value & 0xFF,))
    if kind == b"s":
        found = string(value) if value else b"<NULL>"
        return found if precision < 0 else found[:precision]
    if kind == b"p":
        return b"%08x" % value
    sign = b""
    if kind in b"di":
        if value >> (bits - 1):
            sign, value = b"-", (1 << bits) - value
        elif b"+" in flags:
            sign = b"+"
        elif b" " in flags:
            sign = b" "
    digits = {b"x": b"%x", b"X": b"%X", b"o": b"%o"}.get(kind, b"%d") % value
    digits = b"" if precision == 0 and not value else digits.rjust(precision, b"0")
    if b"#" in flags and value and kind in b"xX":
        sign += b"0" + kind
    elif b"#" in flags and kind == b"o" and not digits.startswith(b"0"):
        digits = b"0" + digits
    return sign + digits
