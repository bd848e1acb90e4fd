"""Listings: every byte of some code as an instruction or as data, with names where they are known."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sandbox.image.disassemble import engine
from sandbox.image.elf import code_ranges, is_elf, is_relocatable, symbols
from sandbox.image.symbols import SymbolTable
from sandbox.records import dataclass

WINDOW = 4096
LONGEST = 15
"""Bytes of the longest instruction (SDM volume 2, 2.3.11)."""
_TARGET = re.compile(r"(?:j\w+|call|loop\w*|bnd \w+) 0x([0-9a-f]+)\Z", re.ASCII)
_ABSOLUTE = re.compile(r"\[0x([0-9a-f]+)\]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Line:
    """One instruction, or one byte that is none."""

    address: int
    raw: bytes
    text: str
    labels: tuple[str, ...] = ()
    """Symbols at this address."""
    refers: str = ""
    """The symbol that a jump goes to, an operand lies at, or a relocation names."""


@dataclass(frozen=True, slots=True)
class Code:
    """A stretch of code.  ``title`` names its section in an object file; ``relocations`` are names by address."""

    address: int
    data: bytes
    symbols: SymbolTable
    title: str = ""
    relocations: tuple[tuple[int, str], ...] = ()


def code_of(data: bytes, name: str, address: int = 0) -> list[Code]:
    """The code in a file: an ELF program, kernel or object, else all of it at ``address``.  Raises ImageError."""
    if is_relocatable(data):
        return _code_of_object(data, name)
    if is_elf(data):
        table = symbols(data)
        return [Code(start, piece, table) for start, piece in code_ranges(data, name)]
    return [Code(address, data, SymbolTable({}))]


def _code_of_object(data: bytes, name: str) -> list[Code]:
    from sandbox.image.relocatable import relocatable

    file = relocatable(data, name)
    found = []
    for section in file.sections:
        if not section.executable or not section.data:
            continue
        inside = {each.name: each.value for each in file.symbols if each.section == section.index and each.name}
        inside.pop(section.name, None)
        names = tuple(
            (each.offset, file.symbols[each.symbol].name)
            for each in file.relocations
            if each.section == section.index
        )  # fmt: skip
        found.append(Code(0, section.data, SymbolTable(inside), section.name, names))
    return found


def listing(code: Code) -> Iterator[Line]:
    """The lines of a stretch of code, in order; together their bytes are all of it."""
    labels: dict[int, list[str]] = {}
    for name, address in code.symbols.items():
        labels.setdefault(address, []).append(name)
    relocations = list(code.relocations)
    at = 0
    while at < len(code.data):
        window = code.data[at : at + WINDOW + LONGEST]
        start = at
        for address, size, mnemonic, operands in engine(False).disasm_lite(window, code.address + at):
            if at - start >= WINDOW:
                break
            text = f"{mnemonic} {operands}".strip()
            named = [name for place, name in relocations if at <= place < at + size]
            refers = named[0] if named else "" if code.relocations else _refers(text, code.symbols)
            yield Line(address & 0xFFFFFFFF, code.data[at : at + size], text, tuple(labels.get(address, ())), refers)
            at += size
        if at - start < WINDOW and at < len(code.data):
            here = code.address + at & 0xFFFFFFFF
            yield Line(here, code.data[at : at + 1], f".byte {code.data[at]:#04x}", tuple(labels.get(here, ())))
            at += 1


def _refers(text: str, table: SymbolTable) -> str:
    if target := _TARGET.match(text):
        return table.find(int(target[1], 16)) or ""
    if absolute := _ABSOLUTE.search(text):
        name = table.find(int(absolute[1], 16)) or ""
        return "" if "+" in name else name
    return ""
