"""ELF files: programs for exec, checked field by field, their symbols, and relocatable modules.

The exec path reads the few headers itself, as a kernel does; sections and relocations are pyelftools' work.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sandbox.image.symbols import SymbolTable
from sandbox.x86.errors import SandboxError

EHDR, PHDR, SHDR = struct.Struct("<16sHHIIIIIHHHHHH"), struct.Struct("<8I"), struct.Struct("<10I")
ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
EM_386 = 3
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_TLS, PT_GNU_STACK = 1, 2, 3, 7, 0x6474E551
PF_X = 1
SHT_SYMTAB = 2
TASK_SIZE = 0xC0000000
MMAP_MIN_ADDR = 0x10000
MAXIMUM_HEADERS = 128
PAGE = 4096


class ImageError(SandboxError):
    """A file that is not an image that can run here."""

    exit_status = 2

    def __init__(self, name: str, what: str, offset: int | None = None) -> None:
        where = f"{name}: " if offset is None else f"{name}: offset {offset:#x}: "
        super().__init__(where + what)


@dataclass(frozen=True, slots=True)
class Segment:
    """A PT_LOAD entry.  Offsets and sizes in bytes, ``vaddr`` linear, ``flags`` PF_R 4, PF_W 2, PF_X 1."""

    offset: int
    filesz: int
    vaddr: int
    memsz: int
    flags: int


@dataclass(frozen=True, slots=True)
class Executable:
    """What exec needs of a static program."""

    entry: int
    segments: tuple[Segment, ...]
    stack_executable: bool
    phdr_vaddr: int | None
    """Linear address at which the program headers are mapped, if a segment holds them."""
    phnum: int


@dataclass(frozen=True, slots=True)
class _Header:
    type: int
    entry: int
    phoff: int
    shoff: int
    phnum: int
    shnum: int
    shstrndx: int


def is_elf(data: bytes) -> bool:
    return data[:4] == b"\x7fELF"


def _header(data: bytes, name: str) -> _Header:
    if len(data) < EHDR.size:
        raise ImageError(name, f"truncated: {len(data)} bytes, an ELF header has {EHDR.size}")
    ident, kind, machine, version, entry, phoff, shoff, _, ehsize, phentsize, phnum, shentsize, shnum, shstr = (
        EHDR.unpack_from(data)
    )
    if ident[:4] != b"\x7fELF":
        raise ImageError(name, "not an ELF file", 0)
    if ident[4] != 1:
        raise ImageError(name, "a 64-bit ELF file; this is a 32-bit machine" if ident[4] == 2 else "bad class", 4)
    if ident[5] != 1:
        raise ImageError(name, "not little-endian", 5)
    if ident[6] != 1 or version != 1:
        raise ImageError(name, "unknown ELF version", 6)
    if machine != EM_386:
        raise ImageError(name, f"for machine {machine}, not for the 386", 18)
    if ehsize != EHDR.size:
        raise ImageError(name, f"header size {ehsize}", 40)
    if phnum and phentsize != PHDR.size:
        raise ImageError(name, f"program header size {phentsize}", 42)
    if shnum and shentsize != SHDR.size:
        shnum = 0
    return _Header(kind, entry, phoff, shoff, phnum, shnum, shstr)


def parse_executable(data: bytes, name: str) -> Executable:
    """Check a static program's headers.

    Raises ImageError, with the field's place in the file, for whatever exec could not map.
    """
    header = _header(data, name)
    if header.type == ET_DYN:
        raise ImageError(name, "position-independent (ET_DYN); link with -static -no-pie", 16)
    if header.type != ET_EXEC:
        raise ImageError(name, "a relocatable file, not a program" if header.type == ET_REL else "not a program", 16)
    if not 0 < header.phnum <= MAXIMUM_HEADERS:
        raise ImageError(name, f"{header.phnum} program headers: 1 to {MAXIMUM_HEADERS} are possible", 44)
    if header.phoff + header.phnum * PHDR.size > len(data):
        raise ImageError(name, "program headers lie beyond the end of the file", 28)
    segments: list[Segment] = []
    stack_executable = True
    phdr_vaddr = None
    for number in range(header.phnum):
        at = header.phoff + number * PHDR.size
        kind, offset, vaddr, _, filesz, memsz, flags, _ = PHDR.unpack_from(data, at)
        if kind == PT_INTERP:
            raise ImageError(name, "dynamically linked (it names an interpreter); link with -static", at)
        if kind == PT_GNU_STACK:
            stack_executable = bool(flags & PF_X)
        if kind != PT_LOAD or not memsz:
            continue
        segment = Segment(offset, filesz, vaddr, memsz, flags & 7)
        _check_segment(segment, segments, len(data), name, at)
        segments.append(segment)
        if offset <= header.phoff and header.phoff + header.phnum * PHDR.size <= offset + filesz:
            phdr_vaddr = vaddr + header.phoff - offset
    if not segments:
        raise ImageError(name, "no PT_LOAD segment: there is nothing to run")
    if not any(each.vaddr <= header.entry < each.vaddr + each.memsz for each in segments):
        raise ImageError(name, f"the entry point {header.entry:#x} is in no segment", 24)
    return Executable(header.entry, tuple(segments), stack_executable, phdr_vaddr, header.phnum)


def _check_segment(segment: Segment, before: list[Segment], size: int, name: str, at: int) -> None:
    if segment.filesz > segment.memsz:
        raise ImageError(name, f"segment with {segment.filesz} bytes in the file and {segment.memsz} in memory", at)
    if segment.offset + segment.filesz > size:
        raise ImageError(name, "truncated: a segment's bytes lie beyond the end of the file", at)
    if segment.vaddr + segment.memsz > TASK_SIZE:
        raise ImageError(name, f"segment at {segment.vaddr:#x} reaches beyond {TASK_SIZE:#x}", at)
    if segment.vaddr < MMAP_MIN_ADDR:
        raise ImageError(name, f"segment at {segment.vaddr:#x}: nothing is mapped below {MMAP_MIN_ADDR:#x}", at)
    if segment.offset % PAGE != segment.vaddr % PAGE:
        raise ImageError(name, "a segment's offset and address differ within the page", at)
    if before:
        last = before[-1]
        if segment.vaddr // PAGE < -(-(last.vaddr + last.memsz) // PAGE):
            raise ImageError(
                name, f"segment at {segment.vaddr:#x} shares a page with, or lies below, the one before", at
            )


def symbols(data: bytes) -> SymbolTable:
    """The symbols of an executable's ``.symtab``; empty when it has none or is damaged there."""
    found: dict[str, int] = {}
    try:
        header = _header(data, "")
        for number in range(header.shnum):
            section = SHDR.unpack_from(data, header.shoff + number * SHDR.size)
            if section[1] != SHT_SYMTAB:
                continue
            strings = SHDR.unpack_from(data, header.shoff + section[6] * SHDR.size)
            for at in range(section[4], section[4] + section[5], 16):
                name_at, value, _, info, _, index = struct.unpack_from("<IIIBBH", data, at)
                if not name_at or not index or info & 15 in (3, 4) or (index >= 0xFF00):
                    continue
                start = strings[4] + name_at
                name = data[start : data.index(b"\0", start)].decode("latin-1")
                if name not in found or info >> 4:
                    found[name] = value
    except (ImageError, struct.error, ValueError):
        return SymbolTable({})
    return SymbolTable(found)
