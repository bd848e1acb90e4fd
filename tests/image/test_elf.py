"""The exec path's ELF reader: every field is checked, and GNU ld's and real programs' files are understood."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.image.assemble import SOURCES, assemble_source
from sandbox.image.elf import ImageError, Segment, is_elf, is_relocatable, parse_executable, symbols
from tests.image.elf_cases import PT_GNU_STACK, PT_INTERP, PT_TLS, Elf, Entry

IMAGES = SOURCES.parent / "images"
PROGRAMS = sorted(IMAGES.glob("*/*.elf"))


def test_smallest_program() -> None:
    program = parse_executable(Elf().pack(), "a")
    assert program.entry == 0x08048100
    assert program.segments == (Segment(0, 0x200, 0x08048000, 0x200, 5, 0x1000),)
    assert (program.phdr_vaddr, program.phnum, program.stack_executable, program.tls) == (0x08048034, 1, True, None)


# What is wrong, the file, words of the message, and the offset of the field at fault.
BAD = [
    ("empty", b"", "not an ELF file", 0),
    ("text", b"#!/bin/sh\n", "not an ELF file", 0),
    ("header cut", Elf().pack()[:51], "truncated: 51 bytes", None),
    ("64-bit", Elf(ident=b"\x7fELF\x02\x01\x01" + bytes(9)).pack(), "64-bit", 4),
    ("class 3", Elf(ident=b"\x7fELF\x03\x01\x01" + bytes(9)).pack(), "class 3", 4),
    ("big-endian", Elf(ident=b"\x7fELF\x01\x02\x01" + bytes(9)).pack(), "little-endian", 5),
    ("ident version", Elf(ident=b"\x7fELF\x01\x01\x02" + bytes(9)).pack(), "version 2", 6),
    ("version", Elf(version=7).pack(), "version 7", 20),
    ("machine", Elf(machine=40).pack(), "machine 40", 18),
    ("ehsize", Elf(ehsize=64).pack(), "64 bytes, not 52", 40),
    ("phentsize", Elf(phentsize=56).pack(), "56 bytes, not 32", 42),
    ("type none", Elf(type=0).pack(), "type 0", 16),
    ("type core", Elf(type=4).pack(), "type 4", 16),
    ("object", Elf(type=1).pack(), "relocatable", 16),
    ("no headers", Elf(headers=[], phnum=0).pack(), "0 program headers", 44),
    ("too many headers", Elf(phnum=129).pack(), "129 program headers", 44),
    ("PN_XNUM", Elf(phnum=0xFFFF).pack(), "65535 program headers", 44),
    ("headers beyond", Elf(phoff=0x1F0).pack(), "beyond the end", 28),
    ("headers far beyond", Elf(phoff=0xFFFFFFFF).pack(), "beyond the end", 28),
    ("no load", Elf(headers=[Entry(kind=PT_GNU_STACK)]).pack(), "nothing to run", None),
    ("empty load", Elf(headers=[Entry(filesz=0, memsz=0)]).pack(), "nothing to run", None),
    ("interp", Elf(headers=[Entry(), Entry(kind=PT_INTERP, filesz=1)]).pack(), "PT_INTERP of 1 byte", 84),
    ("filesz > memsz", Elf(headers=[Entry(memsz=0x1FF)]).pack(), "512 bytes in the file but only 511", 52 + 16),
    ("filesz, no memsz", Elf(headers=[Entry(memsz=0)]).pack(), "512 bytes in the file but only 0", 52 + 16),
    ("cut", Elf(headers=[Entry(filesz=0x201, memsz=0x201)]).pack(), "truncated", 52 + 4),
    ("offset wraps", Elf(headers=[Entry(offset=0xFFFFF000)]).pack(), "truncated", 52 + 4),
    ("in the kernel", Elf(headers=[Entry(vaddr=0xC0000000)]).pack(), "into the kernel", 52 + 8),
    ("up into the kernel", Elf(headers=[Entry(vaddr=0xBFFFF000, memsz=0x1001)]).pack(), "into the kernel", 52 + 8),
    ("wraps", Elf(headers=[Entry(vaddr=0xFFFFF000, memsz=0x1001)]).pack(), "wraps", 52 + 20),
    ("page 0", Elf(headers=[Entry(vaddr=0)]).pack(), "below 0x10000", 52 + 8),
    ("below mmap_min_addr", Elf(headers=[Entry(vaddr=0xF000)]).pack(), "below 0x10000", 52 + 8),
    ("alignment 3", Elf(headers=[Entry(align=3)]).pack(), "power of two", 52 + 28),
    ("page offset", Elf(headers=[Entry(vaddr=0x08048010)]).pack(), "differ modulo", 52 + 4),
    ("alignment", Elf(headers=[Entry(vaddr=0x08048000, offset=0x1000, align=0x2000)], size=0x1200).pack(),
     "differ modulo", 52 + 4),
    ("overlap", Elf(headers=[Entry(memsz=0x1001), Entry(vaddr=0x08049000)]).pack(), "overlaps", 84 + 8),
    ("not sorted", Elf(headers=[Entry(), Entry(vaddr=0x08047000)]).pack(), "overlaps, or lies below", 84 + 8),
    ("twice", Elf(headers=[Entry(), Entry()]).pack(), "overlaps", 84 + 8),
    ("one page for two", Elf(headers=[Entry(filesz=0x100, memsz=0x100),
     Entry(offset=0x180, vaddr=0x08048180, filesz=0x80, memsz=0x80)]).pack(), "shares a page", 84 + 8),
    ("entry 0", Elf(entry=0).pack(), "entry point 0x0", 24),
    ("entry behind", Elf(entry=0x08048200).pack(), "entry point 0x8048200", 24),
    ("TLS sizes", Elf(headers=[Entry(), Entry(kind=PT_TLS, filesz=9, memsz=8)]).pack(), "PT_TLS", 84 + 16),
    ("TLS alignment", Elf(headers=[Entry(), Entry(kind=PT_TLS, align=6)]).pack(), "PT_TLS", 84 + 28),
]  # fmt: skip


@pytest.mark.parametrize(("data", "words", "offset"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_refused(data: bytes, words: str, offset: int | None) -> None:
    with pytest.raises(ImageError) as caught:
        parse_executable(data, "some.elf")
    assert words in caught.value.summary
    assert caught.value.summary.startswith("some.elf: ")
    assert caught.value.offset == offset
    assert offset is None or f"offset {offset:#x}" in caught.value.summary
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    "headers",
    [
        [Entry(align=0)],
        [Entry(align=1)],
        [Entry(vaddr=0x10000, memsz=0x200)],
        [Entry(vaddr=0xBFFFF000, memsz=0x1000)],
        [Entry(), Entry(vaddr=0x08049000, memsz=0x10000)],
        # ld gives a segment that is all .bss an offset that may lie behind the end of the file, or no offset at all.
        [Entry(), Entry(offset=0x1234, vaddr=0x08049234, filesz=0, memsz=4)],
        [Entry(), Entry(offset=0, vaddr=0x08049234, filesz=0, memsz=4)],
    ],
)
def test_accepted(headers: list[Entry]) -> None:
    program = Elf(headers=headers, entry=headers[0].vaddr).pack()
    assert len(parse_executable(program, "a").segments) == len(headers)


@pytest.mark.parametrize(("flags", "executable"), [(6, False), (7, True), (4, False)])
def test_stack_flags(flags: int, executable: bool) -> None:
    """Without the entry Linux gives the 386 an executable stack; test_smallest_program sees that."""
    headers = [Entry(), Entry(kind=PT_GNU_STACK, flags=flags, filesz=0, memsz=0)]
    assert parse_executable(Elf(headers=headers).pack(), "a").stack_executable is executable


def test_program_headers_that_no_segment_holds() -> None:
    headers = [Entry(offset=0x1000, filesz=0x200, memsz=0x200)]
    assert parse_executable(Elf(headers=headers, size=0x1200).pack(), "a").phdr_vaddr is None


def test_tls_template() -> None:
    headers = [Entry(), Entry(kind=PT_TLS, vaddr=0x08048010, filesz=4, memsz=12, align=8)]
    tls = parse_executable(Elf(headers=headers).pack(), "a").tls
    assert tls is not None
    assert (tls.vaddr, tls.filesz, tls.memsz, tls.align) == (0x08048010, 4, 12, 8)


@pytest.mark.parametrize("path", PROGRAMS, ids=[path.stem for path in PROGRAMS if path.stem != "kernel"] + ["kernel"])
def test_agrees_with_pyelftools(path: Path) -> None:
    """A second reader sees the same segments and symbols in every committed program."""
    from elftools.elf.elffile import ELFFile

    data = path.read_bytes()
    file = ELFFile(io.BytesIO(data))
    if path.stem != "kernel":
        program = parse_executable(data, path.name)
        loads = [each.header for each in file.iter_segments("PT_LOAD") if each["p_memsz"]]
        keys = ("p_offset", "p_filesz", "p_vaddr", "p_memsz", "p_flags", "p_align")
        assert list(program.segments) == [Segment(*(each[key] for key in keys)) for each in loads]
        assert program.entry == file.header["e_entry"]
    table = file.get_section_by_name(".symtab")
    wanted = {
        (each.name, each["st_value"])
        for each in (table.iter_symbols() if table else ())
        if isinstance(each["st_shndx"], int)
        and each.name
        and each["st_info"]["type"] not in ("STT_SECTION", "STT_FILE", "STT_TLS")
    }
    found = symbols(data)
    assert {name for name, _ in wanted} == {name for name, _ in found.items()}
    assert set(found.items()) <= wanted


def test_only_addresses_are_symbols(tmp_path: Path) -> None:
    source, target = tmp_path / "a.S", tmp_path / "a.elf"
    source.write_text(
        ".globl _start, both\n_start: ret\nlocal: ret\nboth: ret\n.set five, 5\n"
        '.section .tbss,"awT",@nobits\nthread: .skip 4\n'
    )
    assemble_source(source, target)
    table = symbols(target.read_bytes())
    start = parse_executable(target.read_bytes(), "a").entry
    assert table.address("_start") == start
    assert table.address("local") == start + 1
    assert table.address("both") == start + 2
    assert table.address("five") is None, "an absolute symbol is a number, no address"
    assert table.address("thread") is None, "an offset in thread-local storage is no address"


def test_symbols_of_damaged_files() -> None:
    assert len(symbols(b"")) == 0
    assert len(symbols(Elf().pack())) == 0
    whole = (IMAGES / "kernel" / "kernel.elf").read_bytes()
    for cut in range(0, len(whole), 97):
        symbols(whole[:cut])


def test_kinds() -> None:
    assert is_elf(Elf().pack())
    assert not is_elf(b"\x7fEL")
    assert is_relocatable(Elf(type=1).pack())
    assert not is_relocatable(Elf().pack())
    assert not is_relocatable(b"\x7fELF")


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 0x9F), st.integers(0, 255)), max_size=6), st.integers(0, 0x200))
def test_damage_is_reported_or_harmless(changes: list[tuple[int, int]], cut: int) -> None:
    """No other error comes out, and what is accepted can be mapped."""
    data = bytearray(Elf(headers=[Entry(), Entry(vaddr=0x08049000, filesz=0x80), Entry(kind=PT_GNU_STACK)]).pack())
    for at, value in changes:
        data[at] = value
    try:
        program = parse_executable(bytes(data[: len(data) - cut]), "a")
    except ImageError:
        return
    last = 0x10000
    for segment in program.segments:
        assert last <= segment.vaddr <= segment.vaddr + segment.memsz <= 0xC0000000
        assert segment.filesz <= segment.memsz
        assert not segment.filesz or segment.offset + segment.filesz <= len(data) - cut
        last = segment.vaddr + segment.memsz
    symbols(bytes(data))


def test_position_independent() -> None:
    program = parse_executable(Elf(type=3, headers=[Entry(vaddr=0, memsz=0x3000)], entry=0x10).pack(), "a")
    assert program.position_independent
    assert program.span == (0, 0x3000)
    assert program.interpreter is None


def test_interpreter_is_named_by_its_place() -> None:
    headers = [Entry(), Entry(kind=PT_INTERP, offset=0x80, filesz=14)]
    assert parse_executable(Elf(headers=headers).pack(), "a").interpreter == (0x80, 14)
