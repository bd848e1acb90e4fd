"""Instructions as text and operands; expectations from the SDM, volume 2 (opcodes, and what each operand is for)."""

from __future__ import annotations

import pytest

from sandbox.image.disassemble import MemoryOperand, disassemble, text_of

REGISTERS = {"eax": 0x10, "ecx": 4, "edx": 0xFFFFFFFF, "ebx": 0x12345, "esp": 0x1000, "ebp": 0x2000, "esi": 8, "edi": 2}


def one(code: str, address: int = 0x1000):
    (found,) = disassemble(bytes.fromhex(code), address)
    return found


@pytest.mark.parametrize(
    "code, text",
    [
        ("90", "nop"),
        ("cd80", "int 0x80"),
        ("0f010d", "(bad) 0f 01 0d"),
        ("b801000000", "mov eax, 1"),
        ("ebfe", "jmp 0x1000"),
        ("e8fbffffff", "call 0x1000"),
        ("0f20d8", "mov eax, cr3"),
        ("0f22e0", "mov cr4, eax"),
        ("f3a5", "rep movsd dword ptr es:[edi], dword ptr [esi]"),
        ("0f04", "(bad) 0f 04"),
        ("", "(not mapped)"),
    ],
)
def test_text(code, text):
    assert text_of(bytes.fromhex(code), 0x1000) == text


def test_addresses_sizes_and_the_stop_at_bytes_that_are_no_instruction():
    found = disassemble(bytes.fromhex("90 b801000000 cf 0f04 90"), 0xC0000000)
    assert [(each.address, each.size) for each in found] == [(0xC0000000, 1), (0xC0000001, 5), (0xC0000006, 1)]
    assert [each.raw.hex() for each in found] == ["90", "b801000000", "cf"]
    assert len(disassemble(b"\x90" * 10, 0, 3)) == 3
    assert disassemble(b"", 0) == []


@pytest.mark.parametrize(
    "code, text, size, read, write, address",
    [
        ("8b03", "[ebx]", 4, True, False, 0x12345),  # mov eax, [ebx]
        ("8903", "[ebx]", 4, False, True, 0x12345),  # mov [ebx], eax
        ("0103", "[ebx]", 4, True, True, 0x12345),  # add [ebx], eax
        ("3903", "[ebx]", 4, True, False, 0x12345),  # cmp [ebx], eax
        ("0fb64c8804", "[eax + ecx*4 + 0x4]", 1, True, False, 0x24),  # movzx ecx, byte [eax+ecx*4+4]
        ("8a42f0", "[edx - 0x10]", 1, True, False, 0xFFFFFFEF),  # mov al, [edx-16]
        ("8a4201", "[edx + 0x1]", 1, True, False, 0),  # the sum wraps at 4 GB
        ("a100100000", "[0x1000]", 4, True, False, 0x1000),
        ("65a114000000", "gs:[0x14]", 4, True, False, 0x14),
        ("0fb103", "[ebx]", 4, True, True, 0x12345),  # cmpxchg
        ("0fc10b", "[ebx]", 4, True, True, 0x12345),  # xadd
        ("678a07", "[bx]", 1, True, False, 0x2345),  # 16-bit addresses
        ("678a00", "[bx + si]", 1, True, False, 0x234D),
    ],
)
def test_memory_operands(code, text, size, read, write, address):
    (operand,) = one(code).memory
    assert operand.text() == text
    assert (operand.size, operand.read, operand.write) == (size, read, write)
    assert operand.address(REGISTERS) == address


def test_a_segment_base_is_added_after_the_offset_wrapped():
    (operand,) = one("658a4201").memory  # mov al, gs:[edx+1]
    assert operand.address(REGISTERS, 0xB0000000) == 0xB0000000
    (operand,) = one("678a5701").memory  # mov dl, [bx+1]
    assert operand.address(REGISTERS | {"ebx": 0xFFFF}, 0x20000) == 0x20000


@pytest.mark.parametrize("code", ["8d0403", "0f013b", "0f1803", "0f0d03", "0f1f00", "660f1f440000", "89c8", "90"])
def test_lea_nop_invlpg_prefetch_and_registers_touch_no_memory(code):
    assert one(code).memory == ()


@pytest.mark.parametrize(
    "code, address, size, write",
    [
        ("50", 0xFFC, 4, True),  # push eax
        ("6650", 0xFFE, 2, True),  # push ax
        ("6a01", 0xFFC, 4, True),
        ("1e", 0xFFC, 4, True),  # push ds
        ("9c", 0xFFC, 4, True),  # pushfd
        ("669c", 0xFFE, 2, True),
        ("60", 0xFE0, 32, True),  # pushad: eight registers
        ("6660", 0xFF0, 16, True),
        ("e800000000", 0xFFC, 4, True),
        ("9a001000000800", 0xFF8, 8, True),  # a far call pushes cs and eip
        ("c8100000", 0xFFC, 4, True),  # enter
        ("58", 0x1000, 4, False),
        ("6658", 0x1000, 2, False),
        ("61", 0x1010, 16, False),  # popad: ebx, edx, ecx, eax above the skipped esp
        ("9d", 0x1000, 4, False),
        ("c3", 0x1000, 4, False),
        ("c20800", 0x1000, 4, False),
        ("cb", 0x1000, 8, False),  # retf
        ("cf", 0x1000, 12, False),  # iretd: eip, cs, eflags
        ("c9", 0x2000, 4, False),  # leave reads where ebp points
    ],
)
def test_the_stack_is_an_operand_too(code, address, size, write):
    operand = one(code).memory[-1]
    assert operand.segment == "ss"
    assert operand.address(REGISTERS) == address
    assert (operand.size, operand.write, operand.read) == (size, write, not write)


@pytest.mark.parametrize(
    "code, access",
    [
        ("0fc70b", "8 read write"),  # cmpxchg8b
        ("f00fb103", "4 read write"),  # lock cmpxchg
        ("d303", "4 read write"),  # rol
        ("d91b", "4 write"),  # fstp m32
        ("dd13", "8 write"),  # fst m64
        ("db1b", "4 write"),  # fistp
        ("db0b", "4 write"),  # fisttp
        ("d903", "4 read"),  # fld
        ("d93b", "2 write"),  # fnstcw
        ("d92b", "2 read"),  # fldcw
        ("0fae03", "512 write"),  # fxsave
        ("0fae0b", "512 read"),  # fxrstor
        ("dd33", "108 write"),  # fnsave
        ("dd23", "108 read"),  # frstor
        ("0fae1b", "4 write"),  # stmxcsr
        ("0fc303", "4 write"),  # movnti
        ("0f7f03", "8 write"),  # movq [ebx], mm0
        ("0f6f03", "8 read"),
        ("0f1303", "8 write"),  # movlps [ebx], xmm0
        ("8503", "4 read"),  # test
        ("0f9403", "1 write"),  # sete
        ("8713", "4 read write"),  # xchg
        ("6c", "1 write"),  # insb
        ("6e", "1 read"),  # outsb
        ("ab", "4 write"),
        ("ad", "4 read"),
        ("0fb203", "6 read"),  # lss: selector and offset
        ("660fb203", "4 read"),
        ("66dd33", "94 write"),  # fnsave in its 16-bit format
        ("0fae3b", "1 read"),  # clflush is checked like the load of a byte
        ("0f0103", "6 write"),  # sgdt
        ("0f0113", "6 read"),  # lgdt
        ("0fa303", "4 read"),  # bt
        ("0fab03", "4 read write"),  # bts
    ],
)
def test_sizes_and_accesses(code, access):
    (operand,) = one(code).memory
    assert f"{operand.size}{' read' * operand.read}{' write' * operand.write}" == access


def test_comparing_strings_reads_both():
    assert [(each.read, each.write) for each in one("a6").memory] == [(True, False)] * 2


def test_popcnt_leaves_the_stack_alone():
    assert one("f30fb8c1").memory == ()


def test_push_and_pop_of_memory_have_both_operands():
    assert [(each.text(), each.write) for each in one("ff33").memory] == [("[ebx]", False), ("[esp - 0x4]", True)]
    assert [(each.text(), each.write) for each in one("8f03").memory] == [("[ebx]", True), ("[esp]", False)]
    assert [each.text() for each in one("ff5304").memory] == ["[ebx + 0x4]", "[esp - 0x4]"]


def test_string_instructions_have_source_and_target():
    operands = one("f3a5").memory
    assert {(each.base, each.read, each.write) for each in operands} == {("edi", False, True), ("esi", True, False)}


def test_an_operand_without_registers_shows_its_zero():
    assert MemoryOperand("", "", "", 1, 0, 4, True, False).text() == "[0x0]"
