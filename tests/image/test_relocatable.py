"""Object files of GNU as, nasm and gcc as a module loader sees them, against readelf's and nm's view of the same."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from sandbox.image.assemble import assemble_source
from sandbox.image.elf import ImageError
from sandbox.image.relocatable import R_386_32, R_386_PC32, Relocatable, relocatable

MODULE = """
        .intel_syntax noprefix
        .globl  init, table
        .weak   perhaps
        .text
init:   call    printk
        mov     eax, offset table + 4
        mov     al, byte ptr [local]
        call    perhaps
        ret
        .data
        .balign 16
table:  .long   init, table + 8, local
        .word   7
local:  .byte   1
        .bss
        .balign 64
space:  .skip   100
        .comm   shared, 12, 4
        .set    magic, 0x1234
        .globl  magic
        .section .note.GNU-stack,"",@progbits
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("module")
    (folder / "m.S").write_text(MODULE)
    assemble_source(folder / "m.S", folder / "m.o", "module")
    return folder / "m.o"


@pytest.fixture(scope="module")
def module(built: Path) -> Relocatable:
    return relocatable(built.read_bytes(), "m.o")


def test_sections(module: Relocatable) -> None:
    text, data, bss = (module.section(name) for name in (".text", ".data", ".bss"))
    assert text is not None and data is not None and bss is not None
    assert (text.allocated, text.writable, text.executable) == (True, False, True)
    assert (data.allocated, data.writable, data.executable, data.align, data.size) == (True, True, False, 16, 15)
    assert (bss.writable, bss.align, bss.size, bss.data) == (True, 64, 100, b"")
    assert text.size == len(text.data)
    assert data.data[12:] == b"\x07\x00\x01"
    note = module.section(".note.GNU-stack")
    assert note is not None and not note.allocated
    assert module.section(".lost") is None


def test_symbols(module: Relocatable) -> None:
    init, local, printk, perhaps, shared, magic = (
        module.symbol(name) for name in ("init", "local", "printk", "perhaps", "shared", "magic")
    )
    assert init and local and printk and perhaps and shared and magic
    assert (module.sections[init.section or 0].name, init.value, init.is_global) == (".text", 0, True)
    assert (module.sections[local.section or 0].name, local.value, local.is_global) == (".data", 14, False)
    assert printk.undefined and not printk.weak
    assert perhaps.undefined and perhaps.weak
    assert (shared.common, shared.value, shared.size, shared.undefined) == (True, 4, 12, False)
    assert (magic.absolute, magic.value, magic.undefined) == (True, 0x1234, False)
    assert module.imports == ("perhaps", "printk")
    assert module.symbol("lost") is None


def test_relocations_are_those_of_readelf(built: Path, module: Relocatable) -> None:
    listed = subprocess.run(["readelf", "-rW", str(built)], capture_output=True, text=True, check=True).stdout
    wanted = []
    section = ""
    for line in listed.splitlines():
        if found := re.match(r"Relocation section '\.rel(\S+)'", line):
            section = found[1]
        elif found := re.match(r"([0-9a-f]{8})\s+[0-9a-f]{8}\s+R_386_(\w+)\s+[0-9a-f]{8}\s+(\S+)", line):
            wanted.append((section, int(found[1], 16), {"32": R_386_32, "PC32": R_386_PC32}[found[2]], found[3]))
    seen = [
        (module.sections[each.section].name, each.offset, each.type, module.symbols[each.symbol].name)
        for each in module.relocations
    ]
    assert seen == wanted
    assert len(seen) == 7
    assert {each.width for each in module.relocations} == {4}
    assert [each.relative for each in module.relocations].count(True) == 2


def test_linked_by_hand_it_is_what_ld_gives(tmp_path: Path) -> None:
    """S + A and S + A - P, applied from this reading alone, give ld's bytes."""
    source = tmp_path / "m.S"
    source.write_text(
        ".intel_syntax noprefix\n.globl _start\n_start: call there\nmov eax, offset there + 4\nmov eax, [data]\n"
        "nop\nthere: jmp _start\n.data\ndata: .long _start, data + 2, there - .\n"
    )
    assemble_source(source, tmp_path / "m.o", "module")
    addresses = {".text": 0x08048000, ".data": 0x08060000}
    script = "SECTIONS {" + "".join(f"{name} {at:#x} : {{ *({name}) }}" for name, at in addresses.items()) + "}"
    (tmp_path / "m.ld").write_text(script)
    subprocess.run(["ld", "-m", "elf_i386", "-T", "m.ld", "-o", "m.elf", "m.o"], cwd=tmp_path, check=True)
    for name in addresses:
        subprocess.run(["objcopy", "-O", "binary", "-j", name, "m.elf", name[1:]], cwd=tmp_path, check=True)
    found = relocatable((tmp_path / "m.o").read_bytes(), "m.o")
    assert found.relocations
    for section in found.sections:
        if section.name not in addresses:
            continue
        data = bytearray(section.data)
        for each in found.relocations:
            if each.section != section.index:
                continue
            symbol = found.symbols[each.symbol]
            value = addresses[found.sections[symbol.section or 0].name] + symbol.value
            value += struct.unpack_from("<I", data, each.offset)[0]
            value -= addresses[section.name] + each.offset if each.relative else 0
            struct.pack_into("<I", data, each.offset, value & 0xFFFFFFFF)
        assert bytes(data) == (tmp_path / section.name[1:]).read_bytes()


@pytest.mark.parametrize(
    ("name", "text", "imports"),
    [
        ("m.asm", "extern printk\nglobal init\nsection .text\ninit: call printk\nret\n", ("printk",)),
        ("m.c", "void printk(const char *); int init(void) { printk(\"x\"); return 0; }\n", ("printk",)),
    ],
)  # fmt: skip
def test_other_tools(tmp_path: Path, name: str, text: str, imports: tuple[str, ...]) -> None:
    (tmp_path / name).write_text(text)
    assemble_source(tmp_path / name, tmp_path / "m.o", "module")
    found = relocatable((tmp_path / "m.o").read_bytes(), name)
    assert found.imports == imports
    init = found.symbol("init")
    assert init is not None and init.is_global and not init.undefined


def test_position_independent_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.S").write_text("movl lost@GOT(%ebx), %eax\n")
    assemble_source(tmp_path / "m.S", tmp_path / "m.o", "module")
    with pytest.raises(ImageError, match=r"m\.o: .*type \d+ is not for static code"):
        relocatable((tmp_path / "m.o").read_bytes(), "m.o")


def test_not_an_object(built: Path) -> None:
    data = built.read_bytes()
    for bad, words in (
        (b"", "not an ELF file"),
        (data[:16] + b"\x02\x00" + data[18:], "not a relocatable file"),
        (data[:18] + b"\x28\x00" + data[20:], "not for this machine"),
        (data[:4] + b"\x02" + data[5:], "m.o: "),
        (data[:60], "m.o: "),
    ):
        with pytest.raises(ImageError, match=words):
            relocatable(bad, "m.o")


def is_refused(data: bytes) -> bool:
    """By ImageError; anything else is a traceback."""
    try:
        relocatable(data, "m.o")
    except ImageError:
        return True
    return False


def test_damage_is_reported_or_harmless(built: Path) -> None:
    """Every byte of the headers in turn, to three values: only ImageError comes out."""
    data = built.read_bytes()
    (shoff,) = struct.unpack_from("<I", data, 32)
    places = [*range(16, 52), *range(shoff, len(data))]
    broken = [data[:at] + bytes((value,)) + data[at + 1 :] for at in places for value in (0, 0x7F, 0xFF)]
    refused = sum(map(is_refused, broken))
    assert 0 < refused < len(broken), "some is harmless"


def test_every_truncation(built: Path) -> None:
    data = built.read_bytes()
    for size in range(0, len(data) - 1, 7):
        with pytest.raises(ImageError):
            relocatable(data[:size], "m.o")
