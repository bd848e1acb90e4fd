"""Names for the addresses of a ROM image: from a file that is given, or from the source that its manifest names.

A flat image has no symbols.  Where its source is here, and the tools are, it is built again as an ELF file, which must
hold the same bytes; that is kept below ``build/`` (or a cache) under the image's hash.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from sandbox.home import build_folder
from sandbox.image.assemble import AssemblyError, ToolMissing, assemble_for_debugging
from sandbox.image.elf import PHDR, PT_LOAD, is_elf, symbols
from sandbox.image.files import read_file
from sandbox.image.manifest import source_of
from sandbox.image.symbols import SymbolTable
from sandbox.machine.bare import LOAD_ADDRESS
from sandbox.records import dataclass, field, replace
from sandbox.runner.target import Target
from sandbox.x86.errors import ConfigurationError

CACHE = build_folder() / "symbols"
_NM = re.compile(r"\s*([0-9a-fA-F]{1,16})\s+([A-Za-z?])\s+(\S+)\s*", re.ASCII)
"""A line of ``nm``, and of a System.map."""
REACH = 1 << 16
"""How far behind a symbol it names an address, where nobody knows the image's end."""
_NO_PLACES = "aAuUwvN?"
"""Types of nm that are no addresses of this file."""


@dataclass(frozen=True, slots=True)
class RomSymbols:
    """Linear addresses by name, and the ELF file with line numbers, empty where there is none.

    Addresses from ``end`` on have no name: whatever lies there is not of the image.
    """

    names: Mapping[str, int] = field(default_factory=dict)
    elf: bytes = b""
    end: int = 1 << 32
    ends: Mapping[str, int] = field(default_factory=dict)
    """The first addresses behind what names stand for, where the file says so."""

    def table(self) -> SymbolTable:
        """By name, and by address."""
        return SymbolTable(self.names, REACH, self.ends)

    def of(self, image: range) -> RomSymbols:
        """The same, of an image that lies there: no name of a place in it stands for what is behind it."""
        following = pairwise([*sorted({*self.names.values()}), 0])
        ends = {at: image.stop if at in image else max(behind, at + 1) for at, behind in following}
        return replace(self, ends={name: self.ends.get(name, ends[at]) for name, at in self.names.items()})

    def name(self, linear: int, table: SymbolTable | None = None) -> str:
        """``name+0x10`` of an address of the image, or nothing."""
        return (table or self.table()).find(linear) or "" if linear < self.end else ""


def known(target: Target, path: Path | None) -> RomSymbols:
    """What is known of an image, by the file that was given for it.  Raises UnusableFile and ConfigurationError."""
    if target.kind == "rom":
        return found(target) if path is None else given(path).of(_place(target))
    if path is not None:
        raise ConfigurationError(f"--symbols: {target.name} is a {target.kind}, whose symbols are in its file")
    return RomSymbols()


def given(path: Path) -> RomSymbols:
    """An ELF file, or what nm prints of one.  Raises UnusableFile and ConfigurationError."""
    data = read_file(path)
    if is_elf(data):
        names = dict(symbols(data).items())
        if not names:
            raise ConfigurationError(f"{path}: no symbols in this ELF file")
        return RomSymbols(names, data, ends=_ends(symbols(data), names))
    found = [_NM.fullmatch(line) for line in data.decode("utf-8", "replace").splitlines()]
    names = {each[3]: int(each[1], 16) & 0xFFFFFFFF for each in found if each and each[2] not in _NO_PLACES}
    if not names:
        raise ConfigurationError(f"{path}: neither an ELF file nor a listing of nm (address, type, name)")
    return RomSymbols(names)


def found(target: Target) -> RomSymbols:
    """Those of the manifest's source; none where source or tools are missing, or make other bytes."""
    manifest = target.manifest
    if manifest is None or not manifest.source:
        return RomSymbols()
    try:
        elf = _built(source_of(manifest), target.data, manifest.load)
    except (AssemblyError, ToolMissing, OSError):
        return RomSymbols()
    if not _holds(elf, target.data, manifest.load):
        return RomSymbols()
    table = symbols(elf)
    names = dict(table.items())
    return RomSymbols(names, elf, _place(target).stop, _ends(table, names))


def _ends(table: SymbolTable, names: Mapping[str, int]) -> dict[str, int]:
    return {name: end for name in names if (end := table.end(name)) is not None}


def _place(target: Target) -> range:
    """The linear addresses of an image before paging is on."""
    load = LOAD_ADDRESS if target.manifest is None else target.manifest.load
    return range(load, load + len(target.data))


def _built(source: Path, data: bytes, load: int) -> bytes:
    """Raises AssemblyError, ToolMissing, OSError."""
    if not source.is_file():
        return b""
    where = str(source.resolve()).encode()  # a checkout that was moved has its sources elsewhere
    key = hashlib.sha256(data + source.read_bytes() + where).hexdigest()[:32]
    kept = CACHE / f"{key}.elf"
    if kept.is_file():
        return kept.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "rom.elf"
        assemble_for_debugging(source, made, load)
        elf = made.read_bytes()
    _keep(kept, elf)
    return elf


def _keep(kept: Path, elf: bytes) -> None:
    """Where nothing can be written it is built the next time again."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_bytes(elf)
        part.replace(kept)
    except OSError:
        return


def _holds(elf: bytes, data: bytes, load: int) -> bool:
    """The loaded bytes are the image's."""
    if not is_elf(elf):
        return False
    start, count = int.from_bytes(elf[28:32], "little"), int.from_bytes(elf[44:46], "little")
    image = bytearray(data)
    for number in range(count):
        kind, offset, vaddr, _, size, _, _, _ = PHDR.unpack_from(elf, start + number * PHDR.size)
        at = vaddr - load
        if kind == PT_LOAD and size and image[max(at, 0) : at + size] != elf[offset + max(-at, 0) : offset + size]:
            return False
    return True
