"""The one grammar of expressions: registers, symbols, memory, arithmetic, comparison, ``&&`` and ``||``.

    expression  what C has, with its precedence: ``|| && | ^ & == != < <= > >= << >> + - * / %``, unary ``- ~ !``
    memory      ``*E`` is the 32-bit word at a linear address; ``byte E``, ``word E``, ``dword E``, ``qword E``
    registers   ``$eax`` … ``$eip``, ``$eflags``, ``$cs`` … ``$gs``, ``$cr0`` … ``$cr4``, ``$dr0`` … ``$dr7``, ``$cpl``
    characters  ``'w'``, a number
    numbers     as in C; eight digits are hexadecimal, as everything here prints addresses
    symbols     of the program, of modules, of the kernel; ``<name+0x10>`` as it is printed

Values are integers without a sign of 64 bits, comparisons are 1 or 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Protocol

from sandbox.debug.target import Refused
from sandbox.x86.numbers import LAST, parse_address

_TOKEN = re.compile(
    r"\s*(?:(?P<name>\$?[A-Za-z_.][\w.@]*)|(?P<number>[0-9]\w*)|(?P<character>'[ -&(-~]')"
    r"|<(?P<printed>[^<>+\-\s=]+(?:[+-]\w+)?)>|(?P<sign>\|\||&&|[=!<>]=|<<|>>|[-+*/%&|^~!<>()]))",
    re.ASCII,
)
_LEVELS = (
    ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="),
    ("<", "<=", ">", ">="), ("<<", ">>"), ("+", "-"), ("*", "/", "%"),
)  # fmt: skip
_MISSING = "an address or a number is missing"
_WIDTHS = {"byte": 1, "word": 2, "dword": 4, "qword": 8}
_DIGITS = re.compile(r"[0-9a-fA-F]{8}", re.ASCII)
_LONG = re.compile(r"0[xX][0-9a-fA-F]{9,16}", re.ASCII)
"""Physical addresses have 36 bits."""
_ALL = (1 << 64) - 1
DEEPEST = 64
"""Nested parentheses and signs."""


class Scope(Protocol):
    """Where names get their values."""

    def register(self, name: str) -> int | None:
        """The value of a register, without its ``$``; None for none."""
        ...

    def symbol(self, name: str) -> int | None:
        """The linear address of a symbol, None when it is unknown."""
        ...

    def memory(self, linear: int, size: int) -> bytes:
        """Bytes at a linear address, short where nothing is mapped."""
        ...


def evaluate(text: str, scope: Scope) -> int:
    """The value of an expression.  Raises Refused: what is wrong with it, or what it needs and is not there."""
    parser = _Parser(text, scope)
    found = parser.binary(0)
    parser.end()
    return found


def address(text: str, scope: Scope) -> int:
    """The same as a linear address: from 0 to 4 GB."""
    found = evaluate(text, scope)
    if found > LAST:
        raise Refused(f"{text}: no address from 0 to 4 GB")
    return found


class _Parser:
    """Recursive descent, which evaluates as it goes; ``_quiet`` is above 0 where C would not evaluate."""

    def __init__(self, text: str, scope: Scope) -> None:
        self._text, self._scope = text, scope
        self._tokens = list(self._split(text))
        self._at = self._quiet = self._depth = 0

    def _split(self, text: str) -> Iterator[tuple[str, str]]:
        at, text = 0, text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise Refused(f"{self._text}: what is {text[at:].strip()[:20]!r}?")
            kind = found.lastgroup or ""
            yield kind, found[kind]
            at = found.end()

    def _next(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "")

    def _take(self, *signs: str) -> str:
        kind, text = self._next()
        if kind == "sign" and text in signs:
            self._at += 1
            return text
        return ""

    def end(self) -> None:
        """Nothing may be left.  Raises Refused."""
        if self._next()[0]:
            raise Refused(f"{self._text}: what is {self._next()[1]!r} doing there?")

    def binary(self, level: int) -> int:
        """Operators of this level and of those that bind more tightly."""
        if level == len(_LEVELS):
            return self._unary()
        left = self.binary(level + 1)
        while sign := self._take(*_LEVELS[level]):
            skipped = (sign == "&&" and not left) or (sign == "||" and bool(left))
            self._quiet += skipped
            right = self.binary(level + 1)
            self._quiet -= skipped
            left = self._apply(sign, left, right) & _ALL
        return left

    def _apply(self, sign: str, left: int, right: int) -> int:
        if sign in "/%" and not right:
            if self._quiet:
                return 0
            raise Refused(f"{self._text}: division by 0")
        return _OPERATORS[sign](left, right)

    def _unary(self) -> int:
        self._depth += 1
        if self._depth > DEEPEST:
            raise Refused(f"nested deeper than {DEEPEST}: {self._text[:40]}…")
        try:
            sign = self._take("-", "~", "!", "*")
            if not sign:
                return self._primary()
            value = self._unary()
            if sign == "*":
                return self._load(value, 4)
            return {"-": -value, "~": ~value, "!": int(not value)}[sign] & (LAST if sign == "~" else _ALL)
        finally:
            self._depth -= 1

    def _primary(self) -> int:
        kind, text = self._next()
        if self._take("("):
            found = self.binary(0)
            if not self._take(")"):
                raise Refused(f"{self._text}: a ) is missing")
            return found
        if kind == "character":
            self._at += 1
            return ord(text[1])
        if kind in ("name", "number", "printed"):
            self._at += 1
            if text in _WIDTHS and self._next()[0]:
                return self._load(self._unary(), _WIDTHS[text])
            return self._value(kind, text)
        raise Refused(f"{self._text}: {_MISSING}" if self._text else _MISSING)

    def _value(self, kind: str, text: str) -> int:
        if kind == "printed" and re.search("[+-]", text):
            return evaluate(text, self._scope)
        if kind == "number" or _DIGITS.fullmatch(text):
            if _LONG.fullmatch(text):
                return int(text, 16)
            try:
                return parse_address(text)
            except ValueError as error:
                raise Refused(str(error)) from None
        if text.startswith("$"):
            found = self._scope.register(text[1:].lower())
            if found is None:
                raise Refused(f"{text}: no such register")
            return found
        found = self._scope.symbol(text)
        if found is None:
            found = self._scope.register(text.lower())
        if found is None:
            raise Refused(f"{text!r} is neither a number nor a known symbol")
        return found

    def _load(self, linear: int, size: int) -> int:
        if self._quiet:
            return 0
        data = self._scope.memory(linear & LAST, size)
        if len(data) < size:
            raise Refused(f"nothing is mapped at {linear & LAST:08x}")
        return int.from_bytes(data, "little")


_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "||": lambda a, b: int(bool(a or b)), "&&": lambda a, b: int(bool(a and b)),
    "|": lambda a, b: a | b, "^": lambda a, b: a ^ b, "&": lambda a, b: a & b,
    "==": lambda a, b: int(a == b), "!=": lambda a, b: int(a != b),
    "<": lambda a, b: int(a < b), "<=": lambda a, b: int(a <= b),
    ">": lambda a, b: int(a > b), ">=": lambda a, b: int(a >= b),
    "<<": lambda a, b: a << min(b, 64), ">>": lambda a, b: a >> min(b, 64),
    "+": lambda a, b: a + b, "-": lambda a, b: a - b,
    "*": lambda a, b: a * b, "/": lambda a, b: a // b, "%": lambda a, b: a % b,
}  # fmt: skip
