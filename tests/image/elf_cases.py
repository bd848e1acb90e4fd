"""ELF files made by hand, field by field, after the System V ABI (chapter 4 and 5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

PT_LOAD, PT_INTERP, PT_TLS, PT_GNU_STACK = 1, 3, 7, 0x6474E551


@dataclass
class Entry:
    """A program header, with defaults that map the whole file at 08048000."""

    kind: int = PT_LOAD
    offset: int = 0
    vaddr: int = 0x08048000
    filesz: int = 0x200
    memsz: int = 0x200
    flags: int = 5
    align: int = 0x1000

    def pack(self) -> bytes:
        values = (self.kind, self.offset, self.vaddr, self.vaddr, self.filesz, self.memsz, self.flags, self.align)
        return struct.pack("<8I", *values)


@dataclass
class Elf:
    """A program of ``size`` bytes with these headers."""

    headers: list[Entry] = field(default_factory=lambda: [Entry()])
    ident: bytes = b"\x7fELF\x01\x01\x01" + bytes(9)
    type: int = 2
    machine: int = 3
    version: int = 1
    entry: int = 0x08048100
    phoff: int = 52
    ehsize: int = 52
    phentsize: int = 32
    phnum: int | None = None
    size: int = 0x200

    def pack(self) -> bytes:
        phnum = len(self.headers) if self.phnum is None else self.phnum
        head = self.ident + struct.pack(
            "<HHIIIIIHHHHHH", self.type, self.machine, self.version, self.entry, self.phoff, 0, 0, self.ehsize,
            self.phentsize, phnum, 40, 0, 0,
        )  # fmt: skip
        table = b"".join(each.pack() for each in self.headers)
        return (head.ljust(52, b"\0") + table).ljust(self.size, b"\0")
