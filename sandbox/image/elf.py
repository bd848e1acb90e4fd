"""ELF files: programs for exec, checked field by field as a kernel does, and their symbols.

No pyelftools here: this is on the path of every run.  Objects (``.o``) are :mod:`sandbox.image.relocatable`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sandbox.image.symbols import SymbolTable
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SIZE

EHDR, PHDR, SHDR = struct.Struct("<16sHHIIIIIHHHHHH"), struct.Struct("<8I"), struct.Struct("<10I")
SYMBOL = struct.Struct("<IIIBBH")
ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
EM_386 = 3
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_TLS, PT_GNU_STACK = 1, 2, 3, 7, 0x6474E551
PF_X = 1
SHT_PROGBITS, SHT_SYMTAB = 1, 2
SHF_EXECINSTR = 4
SHN_UNDEF, SHN_LORESERVE = 0, 0xFF00
STB_LOCAL, STT_SECTION, STT_FILE, STT_TLS = 0, 3, 4, 6
TASK_SIZE = 0xC0000000
MMAP_MIN_ADDR = 0x10000
MAXIMUM_HEADERS = 128
PATH_MAX = 4096


class ImageError(SandboxError):
    """A file that is not an image that can run here."""

    exit_status = 2

    def __init__(self, name: str, what: str, offset: int | None = None) -> None:
        where = f"{name}: " if offset is None else f"{name}: offset {offset:#x}: "
        super().__init__(where + what)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Segment:
    """A PT_LOAD entry.  Offsets, sizes and ``align`` in bytes, ``vaddr`` linear, ``flags`` PF_R 4, PF_W 2, PF_X 1."""

    offset: int
    filesz: int
    vaddr: int
    memsz: int
    flags: int
    align: int = PAGE_SIZE


@dataclass(frozen=True, slots=True)
class TlsTemplate:
    """PT_TLS: the initial bytes of thread-local variables.  A static program sets it up itself; exec only maps it."""

    vaddr: int
    filesz: int
    memsz: int
    align: int


@dataclass(frozen=True, slots=True)
class Executable:
    """What exec needs of a program.  Addresses of a position-independent one count from where it is loaded."""

    entry: int
    segments: tuple[Segment, ...]
    stack_executable: bool
    """True without a PT_GNU_STACK entry, as Linux has it for the 386."""
    phdr_vaddr: int | None
    """Linear address at which the program headers are mapped, if a segment holds them."""
    phnum: int
    tls: TlsTemplate | None = None
    position_independent: bool = False
    interpreter: tuple[int, int] | None = None
    """Offset and size in the file of the path that PT_INTERP names."""
    stack_header: bool = True
    """It has a PT_GNU_STACK entry."""

    @property
    def span(self) -> tuple[int, int]:
        """The first and the end address of its pages."""
        last = self.segments[-1]
        return self.segments[0].vaddr & -PAGE_SIZE, -(-(last.vaddr + last.memsz) // PAGE_SIZE) * PAGE_SIZE


@dataclass(frozen=True, slots=True)
class _Header:
    type: int
    entry: int
    phoff: int
    shoff: int
    phnum: int
    shnum: int


def is_elf(data: bytes) -> bool:
    return data[:4] == b"\x7fELF"


def is_relocatable(data: bytes) -> bool:
    """An ELF object file, as for a module."""
    return is_elf(data) and data[16:18] == b"\x01\x00"


def _header(data: bytes, name: str) -> _Header:
    if not is_elf(data):
        raise ImageError(name, "not an ELF file", 0)
    if len(data) < EHDR.size:
        raise ImageError(name, f"truncated: {len(data)} bytes, an ELF header has {EHDR.size}")
    ident, kind, machine, version, entry, phoff, shoff, _, ehsize, phentsize, phnum, shentsize, shnum, _ = (
        EHDR.unpack_from(data)
    )
    if ident[4] != 1:
        what = "a 64-bit ELF file; this is a 32-bit machine" if ident[4] == 2 else f"unknown ELF class {ident[4]}"
        raise ImageError(name, what, 4)
    if ident[5] != 1:
        raise ImageError(name, "not little-endian", 5)
    if ident[6] != 1:
        raise ImageError(name, f"unknown ELF version {ident[6]}", 6)
    if machine != EM_386:
        raise ImageError(name, f"for machine {machine}, not for the 386 (3)", 18)
    if version != 1:
        raise ImageError(name, f"unknown ELF version {version}", 20)
    if ehsize != EHDR.size:
        raise ImageError(name, f"ELF header of {ehsize} bytes, not {EHDR.size}", 40)
    if phnum and phentsize != PHDR.size:
        raise ImageError(name, f"program headers of {phentsize} bytes, not {PHDR.size}", 42)
    return _Header(kind, entry, phoff, shoff, phnum, shnum if shentsize == SHDR.size else 0)


def headers_end(data: bytes, name: str) -> int:
    """The file offset at which the program headers end.  Raises ImageError."""
    header = _header(data, name)
    return header.phoff + header.phnum * PHDR.size


def parse_executable(data: bytes, name: str, size: int | None = None) -> Executable:
    """Check a program's headers; ``data`` may be a beginning that holds them of a file of ``size`` bytes.

    Raises ImageError, with the field's place in the file, for whatever exec could not map (System V ABI, chapter 5,
    and Linux's load_elf_binary, which is as strict about what it maps).
    """
    header = _header(data, name)
    size = len(data) if size is None else size
    if header.type not in (ET_EXEC, ET_DYN):
        what = "a relocatable file, not a program" if header.type == ET_REL else f"type {header.type}, not a program"
        raise ImageError(name, what, 16)
    if not 0 < header.phnum <= MAXIMUM_HEADERS:
        raise ImageError(name, f"{header.phnum} program headers: 1 to {MAXIMUM_HEADERS} are possible", 44)
    table_end = header.phoff + header.phnum * PHDR.size
    if table_end > len(data):
        raise ImageError(name, "truncated: program headers lie beyond the end of the file", 28)
    segments: list[Segment] = []
    stack_executable, stack_header = True, False
    phdr_vaddr = None
    tls = None
    interpreter = None
    lowest = MMAP_MIN_ADDR if header.type == ET_EXEC else 0
    for at in range(header.phoff, table_end, PHDR.size):
        kind, offset, vaddr, _, filesz, memsz, flags, align = PHDR.unpack_from(data, at)
        if kind == PT_INTERP:
            if not 2 <= filesz <= PATH_MAX or offset + filesz > size:
                raise ImageError(name, f"PT_INTERP of {filesz} bytes at offset {offset:#x}", at)
            interpreter = interpreter or (offset, filesz)
        if kind == PT_GNU_STACK:
            stack_executable, stack_header = bool(flags & PF_X), True
        if kind == PT_TLS:
            tls = _tls(TlsTemplate(vaddr, filesz, memsz, align), name, at)
        if kind != PT_LOAD or not (memsz or filesz):
            continue
        segment = Segment(offset, filesz, vaddr, memsz, flags & 7, align)
        _check_segment(segment, segments, size, lowest, name, at)
        segments.append(segment)
        if offset <= header.phoff and table_end <= offset + filesz:
            phdr_vaddr = vaddr + header.phoff - offset
    if not segments:
        raise ImageError(name, "no PT_LOAD segment: there is nothing to run")
    inside = any(each.vaddr <= header.entry < each.vaddr + each.memsz for each in segments)
    if not inside and (header.type == ET_EXEC or header.entry):
        raise ImageError(name, f"the entry point {header.entry:#x} is in no segment", 24)
    return Executable(
        header.entry, tuple(segments), stack_executable, phdr_vaddr, header.phnum, tls,
        header.type == ET_DYN, interpreter, stack_header,
    )  # fmt: skip


def _check_segment(segment: Segment, before: list[Segment], size: int, lowest: int, name: str, at: int) -> None:
    """``at`` is the file offset of the program header: offset +4, vaddr +8, filesz +16, memsz +20, align +28."""
    end = segment.vaddr + segment.memsz
    if segment.filesz > segment.memsz:
        what = f"segment with {segment.filesz} bytes in the file but only {segment.memsz} in memory"
        raise ImageError(name, what, at + 16)
    if segment.filesz and segment.offset + segment.filesz > size:
        raise ImageError(name, "truncated: a segment's bytes lie beyond the end of the file", at + 4)
    if end > 1 << 32:
        raise ImageError(name, f"segment at {segment.vaddr:#x} wraps around the end of the address space", at + 20)
    if end > TASK_SIZE:
        raise ImageError(name, f"segment at {segment.vaddr:#x} reaches beyond {TASK_SIZE:#x}, into the kernel", at + 8)
    if segment.vaddr < lowest:
        raise ImageError(name, f"segment at {segment.vaddr:#x}: nothing is mapped below {lowest:#x}", at + 8)
    if segment.align & (segment.align - 1):
        raise ImageError(name, f"alignment {segment.align:#x} is no power of two", at + 28)
    if segment.filesz and (segment.offset - segment.vaddr) % max(segment.align, PAGE_SIZE):
        what = f"offset {segment.offset:#x} and address {segment.vaddr:#x} differ modulo the alignment"
        raise ImageError(name, what, at + 4)
    if before:
        last = before[-1]
        if segment.vaddr < last.vaddr + last.memsz:
            raise ImageError(name, f"segment at {segment.vaddr:#x} overlaps, or lies below, the one before", at + 8)
        if segment.vaddr // PAGE_SIZE < -(-(last.vaddr + last.memsz) // PAGE_SIZE):
            raise ImageError(name, f"segment at {segment.vaddr:#x} shares a page with the one before", at + 8)


def _tls(tls: TlsTemplate, name: str, at: int) -> TlsTemplate:
    if tls.filesz > tls.memsz:
        raise ImageError(name, f"PT_TLS with {tls.filesz} bytes in the file but only {tls.memsz} in memory", at + 16)
    if tls.align & (tls.align - 1):
        raise ImageError(name, f"PT_TLS with alignment {tls.align:#x}, no power of two", at + 28)
    return tls


def code_ranges(data: bytes, name: str) -> list[tuple[int, bytes]]:
    """(linear address, bytes) of the executable sections of a linked file; without sections, of its segments.

    For reading, not for running: the addresses may be a kernel's.  Raises ImageError for a damaged header.
    """
    header = _header(data, name)
    found = []
    for number in range(header.shnum):
        at = header.shoff + number * SHDR.size
        if at + SHDR.size > len(data):
            raise ImageError(name, "truncated: section headers lie beyond the end of the file", 32)
        _, kind, flags, address, offset, size = SHDR.unpack_from(data, at)[:6]
        if kind == SHT_PROGBITS and flags & SHF_EXECINSTR and size:
            found.append((address, data[offset : offset + size]))
    if found:
        return sorted(found)
    table_end = header.phoff + header.phnum * PHDR.size
    if table_end > len(data):
        raise ImageError(name, "truncated: program headers lie beyond the end of the file", 28)
    for at in range(header.phoff, table_end, PHDR.size):
        kind, offset, vaddr, _, filesz, _, flags, _ = PHDR.unpack_from(data, at)
        if kind == PT_LOAD and flags & PF_X:
            skipped = table_end - offset if offset <= header.phoff and table_end <= offset + filesz else 0
            found.append((vaddr + skipped, data[offset + skipped : offset + filesz]))
    return sorted(found)


def symbols(data: bytes) -> SymbolTable:
    """The symbols of an executable's ``.symtab``; empty when it has none or is damaged there.

    Left out are undefined and absolute ones, and those of sections, files and thread-local variables, which are no
    addresses.
    """
    found: dict[str, int] = {}
    try:
        header = _header(data, "")
        for number in range(header.shnum):
            section = SHDR.unpack_from(data, header.shoff + number * SHDR.size)
            if section[1] != SHT_SYMTAB:
                continue
            start, size, link = section[4:7]
            strings_at, strings_size = SHDR.unpack_from(data, header.shoff + link * SHDR.size)[4:6]
            strings = data[strings_at : strings_at + strings_size]
            for name_at, value, _, info, _, index in SYMBOL.iter_unpack(data[start : start + size]):
                if index == SHN_UNDEF or index >= SHN_LORESERVE or info & 15 in (STT_SECTION, STT_FILE, STT_TLS):
                    continue
                name = strings[name_at : strings.index(b"\0", name_at)].decode("latin-1")
                if name and (name not in found or info >> 4 != STB_LOCAL):
                    found[name] = value
    except (ImageError, struct.error, ValueError):
        return SymbolTable({})
    return SymbolTable(found)
