"""Which statements a call comes to: code of modules replaced in place by the same code that marks each statement.

A tracing function slows a reader of files by ten times; a store into a ``bytearray`` before each statement hardly does.
"""

from __future__ import annotations

import ast
import functools
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

MARKS = "__fuzz_marks__"
_MOST = 1 << 16
marks = bytearray(_MOST)
"""1 for each statement that was come to since this was cleared."""
_used = 0


def follow(*names: str) -> None:
    """The functions and methods of these modules mark from now on, whoever has them already."""
    for name in names:
        _follow(name)


@functools.cache
def _follow(name: str) -> None:
    module = importlib.import_module(name)
    tree = ast.parse(Path(str(module.__file__)).read_text(), str(module.__file__))
    made = compile(_Marking().visit(tree), str(module.__file__), "exec", dont_inherit=True)
    module.__dict__[MARKS] = marks
    codes = dict(_codes(made))
    for function in _functions(module):
        found = codes.get((function.__code__.co_qualname, function.__code__.co_firstlineno))
        if found is not None and found.co_freevars == function.__code__.co_freevars:
            function.__code__ = found


def _codes(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield (each.co_qualname, each.co_firstlineno), each
            yield from _codes(each)


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """Of the module itself and of its classes, under whatever decorates them."""
    classes = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
    for owner in (module, *classes):
        for each in list(vars(owner).values()):
            yield from _under(each, module.__name__)


def _under(found: Any, module: str) -> Iterator[FunctionType]:
    if isinstance(found, property):
        for each in (found.fget, found.fset):
            yield from _under(each, module)
    elif isinstance(found, staticmethod | classmethod):
        yield from _under(found.__func__, module)
    elif hasattr(found, "__wrapped__"):
        yield from _under(found.__wrapped__, module)
    elif isinstance(found, FunctionType) and found.__module__ == module:
        yield found


class _Marking(ast.NodeTransformer):
    """A mark in front of each statement of a function; its number is the next one of all modules."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.Module | ast.ClassDef):
            return node
        for field in ("body", "orelse", "finalbody"):
            lines = getattr(node, field, None)
            if isinstance(lines, list):
                setattr(node, field, [each for line in lines for each in _marked(line)])
        return node


def _marked(line: ast.stmt) -> list[ast.stmt]:
    global _used
    if isinstance(line, ast.Global | ast.Nonlocal) or (
        isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
    ):
        return [line]
    _used = (_used + 1) % _MOST
    mark = ast.parse(f"{MARKS}[{_used}] = 1").body[0]
    for each in ast.walk(mark):
        ast.copy_location(each, line)
    return [mark, line]


class Reached:
    """Statements that calls have come to."""

    def __init__(self) -> None:
        self._seen = 0

    def call(self, function: Callable[[], object]) -> bool:
        """Whether it comes to a statement that no call before it came to."""
        marks[:] = bytes(_MOST)
        try:
            function()
        finally:
            now = int.from_bytes(marks, "little")
            new, self._seen = now & ~self._seen, self._seen | now
        return bool(new)

    def __len__(self) -> int:
        return self._seen.bit_count()
