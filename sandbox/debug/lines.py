"""Source lines of addresses, and addresses of source lines: DWARF's line table (DWARF 5, 6.2), read by pyelftools.

A relocatable file, a module's, is given the addresses at which its sections were loaded before it is read.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from sandbox.debug import dwarf
from sandbox.records import dataclass

_SHDR, _SYM = struct.Struct("<10I"), struct.Struct("<IIIBBH")
SHT_SYMTAB = 2
MOST_SOURCE = 4 << 20
"""Bytes of a source file that are read."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a source file, by the path that the compiler noted."""

    path: str
    number: int

    def place(self) -> str:
        """``count.c:12``."""
        return f"{PurePosixPath(self.path).name}:{self.number}"

    def text(self) -> str | None:
        """The line itself, None where this host has no such file or line."""
        lines = source(self.path)
        return lines[self.number - 1] if 0 < self.number <= len(lines) else None


@cache
def source(path: str) -> tuple[str, ...]:
    """The lines of a source file, none where this host does not have it."""
    found = Path(path)
    try:
        if not found.is_file():
            return ()
        with found.open("rb") as file:
            return tuple(file.read(MOST_SOURCE).decode("utf-8", "replace").splitlines())
    except (OSError, ValueError):
        return ()


class LineTable:
    """One file's line table, in order of addresses.

    ``sections`` are the linear addresses at which a relocatable file's were loaded; a position-independent one's is
    ``bias`` away from where the file says.
    """

    def __init__(self, data: bytes, sections: Mapping[str, int] | None = None, bias: int = 0) -> None:
        moved = data if sections is None else dwarf.guarded(lambda: placed(data, sections), b"")
        rows = sorted(_rows(moved), key=lambda row: row[0])
        self._starts = [address + bias for address, _ in rows]
        self._lines = [line for _, line in rows]

    def __len__(self) -> int:
        return len(self._starts)

    def at(self, linear: int) -> Line | None:
        """The line of an address."""
        at = bisect_right(self._starts, linear) - 1
        return self._lines[at] if at >= 0 else None

    def begins(self, linear: int) -> bool:
        """A line's code begins at this very address."""
        at = bisect_right(self._starts, linear) - 1
        return at >= 0 and self._starts[at] == linear

    def address(self, name: str, number: int) -> int | None:
        """Where a line's code begins, or that of the next line that has some; ``name`` ends the path of its file."""
        found = [
            (line.number, address)
            for address, line in zip(self._starts, self._lines, strict=True)
            if line is not None and line.number >= number and _ends(line.path, name)
        ]
        return min(found)[1] if found else None

    def knows(self, name: str) -> bool:
        """Some code comes from a file whose path ends so."""
        return any(line is not None and _ends(line.path, name) for line in self._lines)


def _ends(path: str, name: str) -> bool:
    return path == name or path.endswith("/" + name)


def has_lines(data: bytes) -> bool:
    """The file has a line table: nothing of pyelftools is needed to say no."""
    return b".debug_line\0" in data


def placed(data: bytes, sections: Mapping[str, int]) -> bytes:
    """A relocatable file with the loaded addresses in its symbols, so that relocations come out as they did."""
    made = bytearray(data)
    place, size, count, names = (struct.unpack_from(form, made, at)[0] for form, at in _HEADER)
    headers = [_SHDR.unpack_from(made, place + size * number) for number in range(count)]
    strings = headers[names][4]
    named = [_string(made, strings + each[0]) for each in headers]
    for header in headers:
        if header[1] != SHT_SYMTAB:
            continue
        for at in range(header[4], header[4] + header[5] - _SYM.size + 1, _SYM.size):
            name, value, length, info, other, section = _SYM.unpack_from(made, at)
            if 0 < section < count and named[section] in sections:
                moved = value + sections[named[section]] & 0xFFFFFFFF
                _SYM.pack_into(made, at, name, moved, length, info, other, section)
    return bytes(made)


_HEADER = (("<I", 32), ("<H", 46), ("<H", 48), ("<H", 50))
"""e_shoff, e_shentsize, e_shnum, e_shstrndx of an ELF32 header."""


def _string(data: bytearray, at: int) -> str:
    return data[at : data.index(0, at)].decode("latin-1")


def _rows(data: bytes) -> list[tuple[int, Line | None]]:
    """(address, line) where statements begin; None where a sequence ends.  A broken table has no rows."""
    return dwarf.read(data, lambda info: [row for unit in info.iter_CUs() for row in _of_unit(info, unit)], [])


def _of_unit(info: Any, unit: Any) -> list[tuple[int, Line | None]]:
    program = info.line_program_for_CU(unit)
    if program is None:
        return []
    top = unit.get_top_DIE().attributes
    folder = top["DW_AT_comp_dir"].value.decode("utf-8", "replace") if "DW_AT_comp_dir" in top else ""
    found: dict[int, Line | None] = {}
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if state.end_sequence:
            found.setdefault(state.address, None)
        elif state.is_stmt and state.line:
            found[state.address] = Line(_path(program, state.file, folder), state.line)
    return list(found.items())


def _path(program: Any, number: int, folder: str) -> str:
    """Version 5 counts files and directories from 0, those before it from 1 with the compilation's own as 0."""
    header = program.header
    late = header["version"] >= 5
    entry = header["file_entry"][number if late else number - 1]
    name = entry.name.decode("utf-8", "replace")
    where = entry.dir_index
    directories = header["include_directory"]
    if not late:
        where -= 1
    directory = directories[where].decode("utf-8", "replace") if 0 <= where < len(directories) else ""
    return str(PurePosixPath(folder) / directory / name)
