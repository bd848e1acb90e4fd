"""ELF files: programs for exec, read as Linux reads them, and their symbols.

No pyelftools here: this is on the path of every run.  Objects (``.o``) are :mod:`sandbox.image.relocatable`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from sandbox.image.symbols import SymbolTable
from sandbox.records import dataclass
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SIZE

EHDR, PHDR, SHDR = struct.Struct("<16sHHIIIIIHHHHHH"), struct.Struct("<8I"), struct.Struct("<10I")
SYMBOL = struct.Struct("<IIIBBH")
ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
EM_386, EM_486 = 3, 6
MACHINES = (EM_386, EM_486)
"""What Linux takes for a program of this machine (elf_check_arch)."""
ELFCLASS64 = 2
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_TLS, PT_GNU_STACK = 1, 2, 3, 7, 0x6474E551
PF_X = 1
SHT_PROGBITS, SHT_SYMTAB, SHT_DYNSYM = 1, 2, 11
SHF_EXECINSTR = 4
SHN_UNDEF, SHN_LORESERVE = 0, 0xFF00
STB_LOCAL, STT_SECTION, STT_FILE, STT_TLS = 0, 3, 4, 6
MAXIMUM_HEADERS = 65536 // PHDR.size
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
        """The first and the end address of its pages, in whatever order they are listed; (0, 0) without any."""
        first = min((each.vaddr for each in self.segments), default=0)
        last = max((each.vaddr + each.memsz for each in self.segments), default=0)
        return first & -PAGE_SIZE, -(-last // PAGE_SIZE) * PAGE_SIZE


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
    """What Linux looks at: not the class, the byte order, the versions or the header's own size.

    A file that ends inside the header goes on in zeros, as in Linux's ``bprm->buf``.
    """
    if not is_elf(data):
        raise ImageError(name, "not an ELF file", 0)
    ident, kind, machine, _, entry, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, _ = EHDR.unpack(
        data[: EHDR.size].ljust(EHDR.size, b"\0")
    )
    if machine not in MACHINES:
        if ident[4] == ELFCLASS64:
            raise ImageError(name, "a 64-bit ELF file; this is a 32-bit machine", 4)
        if len(data) < EHDR.size:
            raise ImageError(name, f"truncated: {len(data)} bytes, an ELF header has {EHDR.size}")
        raise ImageError(name, f"for machine {machine}, not for the 386 (3)", 18)
    if phnum and phentsize != PHDR.size:
        raise ImageError(name, f"program headers of {phentsize} bytes, not {PHDR.size}", 42)
    return _Header(kind, entry, phoff, shoff, phnum, shnum if shentsize == SHDR.size else 0)


def program_headers(data: bytes, name: str) -> tuple[int, int]:
    """Offset and size in bytes of the table of program headers.  Raises ImageError."""
    header = _header(data, name)
    if header.type not in (ET_EXEC, ET_DYN):
        what = "a relocatable file, not a program" if header.type == ET_REL else f"type {header.type}, not a program"
        raise ImageError(name, what, 16)
    if not 0 < header.phnum <= MAXIMUM_HEADERS:
        raise ImageError(name, f"{header.phnum} program headers: 1 to {MAXIMUM_HEADERS} are possible", 44)
    return header.phoff, header.phnum * PHDR.size


def parse_executable(data: bytes, name: str, table: bytes | None = None) -> Executable:
    """Read a program's headers; ``data`` may be the file's beginning when ``table`` has the program headers.

    Raises ImageError, with the field's place in the file, for what Linux's load_elf_binary (6.18) answers with ENOEXEC.
    Segments that cannot be mapped are found by exec, when the old program is gone, as there.
    """
    phoff, size = program_headers(data, name)
    if table is None:
        table = data[phoff : phoff + size]
    if len(table) < size:
        raise ImageError(name, "truncated: program headers lie beyond the end of the file", 28)
    header = _header(data, name)
    segments: list[Segment] = []
    stack_executable, stack_header = True, False
    phdr_vaddr = tls = interpreter = None
    for at, entry in zip(range(phoff, phoff + size, PHDR.size), PHDR.iter_unpack(table), strict=True):
        kind, offset, vaddr, _, filesz, memsz, flags, align = entry
        if kind == PT_INTERP and interpreter is None:
            if not 2 <= filesz <= PATH_MAX:
                raise ImageError(name, f"PT_INTERP of {filesz} bytes at offset {offset:#x}", at)
            interpreter = offset, filesz
        elif kind == PT_GNU_STACK:
            stack_executable, stack_header = bool(flags & PF_X), True
        elif kind == PT_TLS:
            tls = TlsTemplate(vaddr, filesz, memsz, align)
        elif kind == PT_LOAD:
            segments.append(Segment(offset, filesz, vaddr, memsz, flags & 7, align))
            if offset <= phoff < offset + filesz:
                phdr_vaddr = vaddr + phoff - offset
    return Executable(
        header.entry, tuple(segments), stack_executable, phdr_vaddr, header.phnum, tls,
        header.type == ET_DYN, interpreter, stack_header,
    )  # fmt: skip


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


def _end(section: Sequence[tuple[int, ...]]) -> int:
    """The first address behind a section; 0 where a damaged file has none of this number."""
    return section[0][3] + section[0][5] if section else 0


def symbols(data: bytes) -> SymbolTable:
    """The symbols of an executable's ``.symtab``, of one that is stripped ``.dynsym``; empty when it has none, or is
    damaged there.

    Left out are labels that a compiler makes for itself (``.L4``), undefined and absolute ones, and those of sections,
    files and thread-local variables, which are no addresses.  A symbol ends where its size says; one without a size
    (a label of assembly) with its section.
    """
    found: dict[str, int] = {}
    ends: dict[str, int] = {}
    try:
        header = _header(data, "")
        sections = [SHDR.unpack_from(data, header.shoff + number * SHDR.size) for number in range(header.shnum)]
        kinds = [section[1] for section in sections]
        wanted = SHT_SYMTAB if SHT_SYMTAB in kinds else SHT_DYNSYM
        for section in sections:
            if section[1] != wanted:
                continue
            start, size, link = section[4:7]
            strings_at, strings_size = sections[link][4:6]
            strings = data[strings_at : strings_at + strings_size]
            for name_at, value, length, info, _, index in SYMBOL.iter_unpack(data[start : start + size]):
                if index == SHN_UNDEF or index >= SHN_LORESERVE or info & 15 in (STT_SECTION, STT_FILE, STT_TLS):
                    continue
                name = strings[name_at : strings.index(b"\0", name_at)].decode("latin-1")
                if name and name[:2] != ".L" and (name not in found or info >> 4 != STB_LOCAL):
                    found[name] = value
                    ends[name] = value + length if length else _end(sections[index : index + 1])
    except (ImageError, struct.error, ValueError, IndexError):
        return SymbolTable({})
    return SymbolTable(found, ends=ends)
