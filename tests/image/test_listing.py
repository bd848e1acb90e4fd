"""Listings cover every byte, name what can be named, and agree with objdump about programs and objects."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox.image.assemble import SOURCES, assemble_source
from sandbox.image.elf import ImageError
from sandbox.image.listing import WINDOW, Code, code_of, listing
from sandbox.image.symbols import SymbolTable
from tests.image.elf_cases import Elf, Entry

IMAGES = SOURCES.parent / "images"
NOTHING = SymbolTable({})
needs_objdump = pytest.mark.skipif(not shutil.which("objdump"), reason="binutils are not installed")


def lines(data: bytes, address: int = 0, names: dict[str, int] | None = None) -> list[str]:
    return [line.text for line in listing(Code(address, data, SymbolTable(names or {})))]


@pytest.mark.parametrize("seed", range(5))
def test_every_byte_is_in_one_line(seed: int) -> None:
    data = random.Random(seed).randbytes(3 * WINDOW + 7)
    found = list(listing(Code(0x1000, data, NOTHING)))
    assert b"".join(line.raw for line in found) == data
    at = 0x1000
    for line in found:
        assert line.address == at
        at += len(line.raw)


def test_windows_do_not_show() -> None:
    """An instruction that lies across the edge of a window is whole."""
    long = bytes.fromhex("c78480785634120df0adde90")[:11]
    for shift in range(12):
        data = b"\x90" * (WINDOW - shift) + long + b"\xc3"
        assert lines(data)[-2:] == ["mov dword ptr [eax + eax*4 + 0x12345678], 0xdeadf00d", "ret"]


def test_bytes_that_are_no_instruction() -> None:
    assert lines(bytes.fromhex("90 0f04 c3")) == ["nop", ".byte 0x0f", "add al, 0xc3"]
    assert lines(b"\xff" * 3) == [".byte 0xff"] * 3
    assert lines(b"\x0f") == [".byte 0x0f"]
    assert lines(b"") == []


def test_names() -> None:
    names = {"_start": 0x1000, "begin": 0x1000, "loop": 0x1005, "page": 0x804A000, "far": 0x2000}
    code = bytes.fromhex("e8fb0f0000 74fe 8b0d00a00408 8b0d04a00408 a100a00408 ebf0 b800a00408")
    found = list(listing(Code(0x1000, code, SymbolTable(names))))
    assert [(line.text, line.labels, line.refers) for line in found] == [
        ("call 0x2000", ("_start", "begin"), "far"),
        ("je 0x1005", ("loop",), "loop"),
        ("mov ecx, dword ptr [0x804a000]", (), "page"),
        ("mov ecx, dword ptr [0x804a004]", (), ""),
        ("mov eax, dword ptr [0x804a000]", (), "page"),
        ("jmp 0x100a", (), "loop+0x5"),
        ("mov eax, 0x804a000", (), ""),
    ]


def test_addresses_wrap_at_4_gb() -> None:
    assert [line.address for line in listing(Code(0xFFFFFFFF, b"\x90\x90\x0f", NOTHING))] == [0xFFFFFFFF, 0, 1]


def objdump(path: Path) -> list[tuple[int, int]]:
    """(address, size) of what GNU objdump takes for instructions."""
    out = subprocess.run(["objdump", "-dw", "-z", str(path)], capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+)", out, re.MULTILINE)
    return [(int(address, 16), len(raw.split())) for address, raw in rows]


@needs_objdump
@pytest.mark.parametrize(
    "name", ["kernel/kernel.elf", "cow-fork/cow-fork.elf", "brk/brk.elf", "fpu-switch/fpu-switch.elf"]
)
def test_objdump_sees_the_same_instructions(name: str) -> None:
    found = [line for code in code_of((IMAGES / name).read_bytes(), name) for line in listing(code)]
    assert [(line.address, len(line.raw)) for line in found] == objdump(IMAGES / name)


@needs_objdump
def test_objects(tmp_path: Path) -> None:
    (tmp_path / "m.S").write_text(
        ".intel_syntax noprefix\n.globl init\ninit: call printk\nagain: mov eax, [counter]\njmp again\n"
        '.data\ncounter: .long 0\n.section .other, "ax"\nret\n'
    )
    assemble_source(tmp_path / "m.S", tmp_path / "m.o", "module")
    text, other = code_of((tmp_path / "m.o").read_bytes(), "m.o")
    assert (text.title, other.title) == (".text", ".other")
    found = list(listing(text))
    assert [(line.labels, line.refers) for line in found] == [(("init",), "printk"), (("again",), ".data"), ((), "")]
    assert [(line.address, len(line.raw)) for line in [*found, *listing(other)]] == objdump(tmp_path / "m.o")


def test_a_program_without_sections_has_its_segments() -> None:
    data = bytearray(Elf(headers=[Entry(filesz=0x200)]).pack())
    data[84:] = b"\x90" * (0x200 - 84)
    (code,) = code_of(bytes(data), "a")
    assert (code.address, code.data) == (0x08048000 + 84, b"\x90" * (0x200 - 84)), "the headers are no code"
    (code,) = code_of(Elf(headers=[Entry(offset=0x100, vaddr=0x8048100, filesz=0x100)]).pack(), "a")
    assert (code.address, len(code.data)) == (0x08048100, 0x100)


def test_a_raw_file_is_all_code() -> None:
    (code,) = code_of(b"\x90\xc3", "x.bin", 0x7C00)
    assert (code.address, code.data) == (0x7C00, b"\x90\xc3")


def test_damaged_headers() -> None:
    for data in (Elf(phoff=0xFFFFFF00).pack(), Elf().pack()[:60], Elf(machine=62).pack(), b"\x7fELF"):
        with pytest.raises(ImageError, match=r"^x\.elf: "):
            code_of(data, "x.elf")
