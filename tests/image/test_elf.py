"""The exec path's ELF reader: what Linux refuses is refused, and GNU ld's and real programs' files are understood."""

from __future__ import annotations

import io
import subprocess
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
    ("header cut", Elf().pack()[:18], "truncated: 18 bytes", None),
    ("64-bit", Elf(ident=b"\x7fELF\x02\x01\x01" + bytes(9), machine=62).pack(), "64-bit", 4),
    ("machine", Elf(machine=40).pack(), "machine 40", 18),
    ("phentsize", Elf(phentsize=56).pack(), "56 bytes, not 32", 42),
    ("type none", Elf(type=0).pack(), "type 0", 16),
    ("type core", Elf(type=4).pack(), "type 4", 16),
    ("object", Elf(type=1).pack(), "relocatable", 16),
    ("no headers", Elf(headers=[], phnum=0).pack(), "0 program headers", 44),
    ("too many headers", Elf(phnum=2049).pack(), "2049 program headers", 44),
    ("PN_XNUM", Elf(phnum=0xFFFF).pack(), "65535 program headers", 44),
    ("headers beyond", Elf(phoff=0x1F0).pack(), "beyond the end", 28),
    ("headers far beyond", Elf(phoff=0xFFFFFFFF).pack(), "beyond the end", 28),
    ("interp", Elf(headers=[Entry(), Entry(kind=PT_INTERP, filesz=1)]).pack(), "PT_INTERP of 1 byte", 84),
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
        [],
        [Entry(align=0)],
        [Entry(align=3)],
        [Entry(memsz=0x1000), Entry(vaddr=0x08047000, offset=0x5000)],
        [Entry(vaddr=0x10000, memsz=0x200)],
        [Entry(vaddr=0xBFFFF000, memsz=0x1000)],
        [Entry(), Entry(vaddr=0x08049000, memsz=0x10000)],
        # ld gives a segment that is all .bss an offset that may lie behind the end of the file, or no offset at all.
        [Entry(), Entry(offset=0x1234, vaddr=0x08049234, filesz=0, memsz=4)],
        [Entry(), Entry(offset=0, vaddr=0x08049234, filesz=0, memsz=4)],
    ],
)
def test_accepted(headers: list[Entry]) -> None:
    program = Elf(headers=[*headers, Entry(kind=PT_GNU_STACK)], entry=0x08048000).pack()
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
        loads = [each.header for each in file.iter_segments("PT_LOAD")]
        keys = ("p_offset", "p_filesz", "p_vaddr", "p_memsz", "p_flags", "p_align")
        assert list(program.segments) == [Segment(*(each[key] for key in keys)) for each in loads]
        assert program.entry == file.header["e_entry"]
    table = file.get_section_by_name(".symtab")
    wanted = {
        (each.name, each["st_value"])
        for each in (table.iter_symbols() if table else ())
        if not each.name.startswith(".L")
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
    """No other error comes out."""
    data = bytearray(Elf(headers=[Entry(), Entry(vaddr=0x08049000, filesz=0x80), Entry(kind=PT_GNU_STACK)]).pack())
    for at, value in changes:
        data[at] = value
    try:
        program = parse_executable(bytes(data[: len(data) - cut]), "a")
    except ImageError:
        return
    assert program.span[0] <= program.span[1]
    symbols(bytes(data))


def test_position_independent() -> None:
    program = parse_executable(Elf(type=3, headers=[Entry(vaddr=0, memsz=0x3000)], entry=0x10).pack(), "a")
    assert program.position_independent
    assert program.span == (0, 0x3000)
    assert program.interpreter is None


def test_interpreter_is_named_by_its_place() -> None:
    headers = [Entry(), Entry(kind=PT_INTERP, offset=0x80, filesz=14)]
    assert parse_executable(Elf(headers=headers).pack(), "a").interpreter == (0x80, 14)


def test_labels_of_a_compiler_are_no_names(tmp_path: Path) -> None:
    """`as -L` keeps them, and libraries have them; a debugger that names places leaves them out, as gdb does."""
    (tmp_path / "p.S").write_text(".globl _start\n_start: nop\n.Lhere: nop\nthere: nop\n")
    for words in (["as", "--32", "-L", "-o", "p.o", "p.S"], ["ld", "-m", "elf_i386", "-o", "p", "p.o"]):
        subprocess.run(words, cwd=tmp_path, check=True)
    table = symbols((tmp_path / "p").read_bytes())
    start = table.address("_start")
    assert start is not None and table.address(".Lhere") is None
    assert table.find(start + 1) == "_start+0x1"
    assert table.find(start + 2) == "there"
