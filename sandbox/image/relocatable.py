"""ELF object files, the form of a kernel module: sections, symbols and relocations, read through pyelftools."""

from __future__ import annotations

import io
import struct
from typing import Any

from sandbox.image.elf import EM_386, SHF_EXECINSTR, SHN_LORESERVE, ImageError, is_elf, is_relocatable
from sandbox.records import dataclass

SHF_WRITE, SHF_ALLOC, SHF_TLS, SHF_COMPRESSED = 1, 2, 0x400, 0x800
SHN_UNDEF, SHN_ABS, SHN_COMMON = 0, 0xFFF1, 0xFFF2
R_386_NONE, R_386_32, R_386_PC32, R_386_PLT32, R_386_16, R_386_PC16, R_386_8, R_386_PC8 = 0, 1, 2, 4, 20, 21, 22, 23
RELOCATIONS = {
    R_386_32: ("R_386_32", 4), R_386_PC32: ("R_386_PC32", 4), R_386_PLT32: ("R_386_PLT32", 4),
    R_386_16: ("R_386_16", 2), R_386_PC16: ("R_386_PC16", 2), R_386_8: ("R_386_8", 1), R_386_PC8: ("R_386_PC8", 1),
}  # fmt: skip
"""Name and width in bytes of the types that a loader of static code needs (System V ABI, i386 supplement)."""
MAXIMUM_SECTION = 1 << 28
# In what other ways pyelftools reports damaged fields.
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError)


@dataclass(frozen=True, slots=True)
class Section:
    """One section.  ``size`` and ``align`` in bytes; ``data`` is empty for SHT_NOBITS."""

    index: int
    name: str
    size: int
    align: int
    data: bytes
    allocated: bool
    writable: bool
    executable: bool


@dataclass(frozen=True, slots=True)
class Symbol:
    """``value`` is an offset in the section, a number (``absolute``), or for a common symbol its alignment."""

    name: str
    section: int | None
    value: int
    size: int
    is_global: bool
    weak: bool
    absolute: bool
    common: bool

    @property
    def undefined(self) -> bool:
        """To be found elsewhere: an import."""
        return self.section is None and not self.absolute and not self.common


@dataclass(frozen=True, slots=True)
class Relocation:
    """Change ``width`` bytes at ``offset`` of section ``section``; ``symbol`` indexes ``Relocatable.symbols``.

    The addend is what already stands there (SHT_REL).
    """

    section: int
    offset: int
    type: int
    symbol: int

    @property
    def width(self) -> int:
        return RELOCATIONS[self.type][1]

    @property
    def relative(self) -> bool:
        """Minus the address of the place itself."""
        return self.type in (R_386_PC32, R_386_PLT32, R_386_PC16, R_386_PC8)


@dataclass(frozen=True, slots=True)
class Relocatable:
    """An object file: what a module loader needs of it."""

    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    relocations: tuple[Relocation, ...]

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((each for each in self.sections if each.name == name), None)

    def symbol(self, name: str) -> Symbol | None:
        """The symbol of that name, global before local."""
        named = [each for each in self.symbols if each.name == name]
        return max(named, key=lambda each: each.is_global, default=None)

    @property
    def imports(self) -> tuple[str, ...]:
        """Names of the undefined symbols, sorted."""
        return tuple(sorted({each.name for each in self.symbols if each.undefined and each.name}))


def relocatable(data: bytes, name: str) -> Relocatable:
    """Read an object file.  Raises ImageError with what and where for one that could not be loaded."""
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError
    from elftools.elf.elffile import ELFFile

    if not is_elf(data):
        raise ImageError(name, "not an ELF file", 0)
    if not is_relocatable(data):
        raise ImageError(name, "not a relocatable file; assemble without linking", 16)
    try:
        file = ELFFile(io.BytesIO(data))
        if file.elfclass != 32 or not file.little_endian or file.header["e_machine"] != "EM_386":
            raise ImageError(
                name, f"not for this machine: it takes 32-bit little-endian objects for the 386 ({EM_386})", 4
            )
        raw = list(file.iter_sections())
        sections = tuple(_section(index, each, len(data), name) for index, each in enumerate(raw))
        table = file.get_section_by_name(".symtab")
        symbols = tuple(_symbol(each, sections, name) for each in table.iter_symbols()) if table is not None else ()
        relocations: list[Relocation] = []
        for each in raw:
            relocations += _relocations(each, sections, symbols, name)
    except ImageError:
        raise
    except (ELFError, ConstructError, struct.error, *_DAMAGE) as error:
        raise ImageError(name, f"a damaged object file ({type(error).__name__}: {error})") from error
    return Relocatable(sections, symbols, tuple(relocations))


def _section(index: int, raw: Any, file_size: int, name: str) -> Section:
    size, align, flags, at = raw["sh_size"], raw["sh_addralign"], raw["sh_flags"], raw["sh_offset"]
    empty = raw["sh_type"] in ("SHT_NOBITS", "SHT_NULL")
    label = raw.name or f"number {index}"
    if align & (align - 1):
        raise ImageError(name, f"section {label}: alignment {align:#x} is no power of two", at)
    if not empty and at + size > file_size:
        raise ImageError(name, f"section {label}: its bytes lie beyond the end of the file", at)
    if size > MAXIMUM_SECTION:
        raise ImageError(name, f"section {label}: {size} bytes, more than {MAXIMUM_SECTION}", at)
    if flags & SHF_COMPRESSED:
        raise ImageError(name, f"section {label}: compressed", at)
    if flags & SHF_TLS:
        raise ImageError(name, f"section {label}: thread-local data has no place in a module", at)
    return Section(
        index, raw.name, size, max(align, 1), b"" if empty else raw.data(),
        bool(flags & SHF_ALLOC), bool(flags & SHF_WRITE), bool(flags & SHF_EXECINSTR),
    )  # fmt: skip


def _symbol(raw: Any, sections: tuple[Section, ...], name: str) -> Symbol:
    place = raw["st_shndx"]
    special = {"SHN_UNDEF": SHN_UNDEF, "SHN_ABS": SHN_ABS, "SHN_COMMON": SHN_COMMON}.get(place, place)
    section = special if isinstance(special, int) and SHN_UNDEF < special < SHN_LORESERVE else None
    if section is None and special not in (SHN_UNDEF, SHN_ABS, SHN_COMMON):
        raise ImageError(name, f"symbol {raw.name!r} in a section of unknown kind {place}")
    if section is not None and (section >= len(sections) or raw["st_value"] > sections[section].size):
        raise ImageError(name, f"symbol {raw.name!r} lies outside of its section")
    info = raw["st_info"]
    label = raw.name
    if info["type"] == "STT_SECTION" and section is not None:
        label = sections[section].name
    return Symbol(
        label, section, raw["st_value"], raw["st_size"], info["bind"] != "STB_LOCAL", info["bind"] == "STB_WEAK",
        special == SHN_ABS, special == SHN_COMMON,
    )  # fmt: skip


def _relocations(raw: Any, sections: tuple[Section, ...], symbols: tuple[Symbol, ...], name: str) -> list[Relocation]:
    if raw["sh_type"] == "SHT_RELA":
        raise ImageError(name, f"section {raw.name}: relocations with addends, which the 386 does not use")
    if raw["sh_type"] != "SHT_REL":
        return []
    target = raw["sh_info"]
    if not 0 < target < len(sections):
        raise ImageError(name, f"section {raw.name}: relocations for section {target}, which there is not")
    found = []
    for number, each in enumerate(raw.iter_relocations()):
        kind = each["r_info_type"]
        where = f"section {raw.name}: relocation {number}"
        if kind == R_386_NONE:
            continue
        if kind not in RELOCATIONS:
            raise ImageError(name, f"{where}: type {kind} is not for static code (compile with -fno-pic)")
        if each["r_info_sym"] >= len(symbols):
            raise ImageError(name, f"{where}: symbol {each['r_info_sym']}, which there is not")
        if each["r_offset"] + RELOCATIONS[kind][1] > len(sections[target].data):
            raise ImageError(name, f"{where}: offset {each['r_offset']:#x} lies outside of {sections[target].name}")
        found.append(Relocation(target, each["r_offset"], kind, each["r_info_sym"]))
    return found
