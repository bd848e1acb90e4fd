"""Descriptor tables, TSS, segments, control registers decoded; the words are made by hand from SDM 3A, 3.4.5 to 7.6."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from sandbox.debug.debugger import Debugger
from sandbox.debug.rom_target import RomTarget
from sandbox.image.assemble import assemble_text
from sandbox.runner.rom import RomConfig, RomSession
from sandbox.runner.target import Target

LOAD, TABLES = 0x100000, 0x101000
GDT, LDT, TSS, IDT, POINTERS = (TABLES + 0x100 * number for number in range(5))
CODE = f"""
        lgdt    [{POINTERS}]
        lidt    [{POINTERS + 8}]
        mov     ax, 0x10
        mov     ds, ax
        mov     ss, ax
        mov     esp, 0x180000
        ljmp    0x08, offset on
on:     mov     ax, 0x18
        ltr     ax
        mov     ax, 0x20
        lldt    ax
        mov     ebx, 0x1234
        ljmp    0x28, 0x80
        .org    0x80
        .code16
        mov     ax, [bx + 4]
        hlt
"""
DESCRIPTORS = [
    0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF, 0x000081101200002B, 0x0000821011000007, 0x00009A100000FFFF,
    0x0012EC0300083456, 0x0040160000000FFF,
]  # fmt: skip
WORDS_OF_TSS = [0x0028, 0x1110, 0x0010, 0x2220, 0x0011, *range(0x3000, 0x3011)]
"""Link, SP0, SS0, SP1, SS1, and what else a 16-bit TSS has: 22 words (figure 7-10)."""


def image() -> bytes:
    made = bytearray(0x2000)
    code = assemble_text(CODE, LOAD)
    made[: len(code)] = code

    def put(at: int, data: bytes) -> None:
        made[at - LOAD : at - LOAD + len(data)] = data

    put(GDT, b"".join(each.to_bytes(8, "little") for each in DESCRIPTORS))
    put(LDT, 0x00CFFA000000FFFF.to_bytes(8, "little"))
    put(TSS, b"".join(each.to_bytes(2, "little") for each in WORDS_OF_TSS))
    put(IDT + 3 * 8, 0x0000E70000081234.to_bytes(8, "little"))
    put(POINTERS, (8 * len(DESCRIPTORS) - 1).to_bytes(2, "little") + GDT.to_bytes(4, "little"))
    put(POINTERS + 8, (4 * 8 - 1).to_bytes(2, "little") + IDT.to_bytes(4, "little"))
    return bytes(made)


@pytest.fixture(scope="module")
def debugger() -> Iterator[Debugger]:
    """At the 16-bit instruction."""
    target = RomTarget("t", RomSession(Target("t", "rom", image()), RomConfig(ram=4 << 20)))
    made = Debugger(target)
    made.begin()
    assert made.execute("break 0x100080").error == ""
    made.execute("continue")
    yield made
    target.close()


def texts(debugger: Debugger, table: str) -> dict[int, str]:
    key = "vector" if table == "idt" else "selector"
    return {each[key]: each["text"] for each in debugger.execute(f"info {table}").data[table]["entries"]}


def test_gdt(debugger: Debugger) -> None:
    assert texts(debugger, "gdt") == {
        0x08: "code 32-bit DPL 0, base 0x00000000, limit 0xffffffff",
        0x10: "data 32-bit DPL 0, base 0x00000000, limit 0xffffffff",
        0x18: "busy 16-bit TSS DPL 0, base 0x00101200, limit 0x0000002b",
        0x20: "LDT DPL 0, base 0x00101100, limit 0x00000007",
        0x28: "code 16-bit DPL 0, base 0x00100000, limit 0x0000ffff",
        0x30: "32-bit call gate to 0x0008:0x00123456, DPL 3",
        0x38: "data 32-bit expand-down DPL 0, base 0x00000000, limit 0x00000fff, not present",
    }


def test_ldt(debugger: Debugger) -> None:
    assert texts(debugger, "ldt") == {4: "code 32-bit DPL 3, base 0x00000000, limit 0xffffffff"}


def test_idt(debugger: Debugger) -> None:
    assert texts(debugger, "idt") == {3: "16-bit trap gate to 0x0008:0x00001234, DPL 3"}


def test_tss_of_16_bits(debugger: Debugger) -> None:
    answer = debugger.execute("info tss")
    told = answer.data["tss"]
    shown = re.findall(r"(\w+) ([0-9a-f]{4})\b", "\n".join(answer.lines[1:]))
    assert {name: int(value, 16) for name, value in shown} == told["fields"]
    assert (told["bits"], told["selector"], told["base"], told["limit"]) == (16, 0x18, TSS, 43)
    assert list(told["fields"].values()) == WORDS_OF_TSS
    assert (told["fields"]["sp0"], told["fields"]["ss0"], told["fields"]["link"]) == (0x1110, 0x10, 0x28)


def test_segments(debugger: Debugger) -> None:
    told = debugger.execute("info segments").data["segments"]
    assert told["cs"]["selector"] == 0x28
    assert (told["cs"]["base"], told["cs"]["limit"]) == (0x100000, 0xFFFF)
    assert "16-bit" in told["cs"]["text"]
    assert (told["gdtr"]["base"], told["gdtr"]["limit"]) == (GDT, 63)
    assert told["ldtr"]["base"] == LDT


def test_control_registers_by_bits(debugger: Debugger) -> None:
    told = debugger.execute("info cr").data["control"]
    assert "PE" in told["cr0"]["bits"]
    assert "PG" not in told["cr0"]["bits"]


def test_code_is_as_wide_as_cs_and_tells_where_operands_lie(debugger: Debugger) -> None:
    told = debugger.execute("code").data
    assert told["code"][0]["text"] == "mov ax, word ptr [bx + 4]"
    assert told["operands"] == ["[bx + 0x4] = 00001238, 2 bytes read"]


def test_ports_of_a_tss() -> None:
    """Bit clear is open; the last byte of the segment is all ones (SDM 1, 19.5.2)."""
    from sandbox.debug.descriptors import ports

    bitmap = bytearray(b"\xff" * 17)
    bitmap[0x60 >> 3] &= ~(1 << 0 | 1 << 4)  # 0x60 and 0x64
    bitmap[0x70 >> 3] = 0
    assert ports(bytes(104) + bytes(bitmap), 104, 104 + 16) == "60, 64, 70-77"
    assert "no bitmap" in ports(bytes(104), 104, 103)
