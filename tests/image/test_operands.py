"""Memory operands against what the engine's memory hooks see when it runs the same bytes, and against the SDM."""

from __future__ import annotations

import re

import pytest
import unicorn
from unicorn import x86_const as x86

from sandbox.engine.cpu import Cpu
from sandbox.image.disassemble import Instruction, disassemble
from sandbox.image.operands import register_size

REGISTERS = {
    "eax": 0x3C, "ecx": 0x22, "edx": 5, "ebx": 0x20000, "esp": 0xF000, "ebp": 0xF800, "esi": 0x21000, "edi": 0x22000,
}  # fmt: skip
CODE, SIZE = 0x100000, 0x400000
FAR_CALL = re.compile(rb"^[\x65-\x67\xf2\xf3]?\xff[\x18-\x1f\x58-\x5f]", re.DOTALL)
TAIL = b"\x01\0\0\0\0\0"

# Emulators may leave bytes of a state area alone (reserved fields, registers in their initial state).
AREAS = ("fxsave", "fxrstor", "fldenv", "frstor", "xsave", "xsaveopt", "xrstor")
# The engine touches more than the manual says of these: the other half of a quadword, or of a double quadword.
WIDER_IN_THE_ENGINE = (
    "cvttps2pi", "cvtps2pi", "cvtps2pd", "cvtdq2pd", "roundsd", "roundss", "pmovsx", "pmovzx", "punpckl", "insertps",
)  # fmt: skip
# It does not check what these would fault on.
NOT_IN_THE_ENGINE = ("clflush",)
# They leave the straight path before their operand is touched, or end the run.
NOT_RUN = ("hlt", "syscall", "sysret", "sysenter", "sysexit", "int", "into", "int1", "int3", "iretd", "iret", "ud")


@pytest.fixture(scope="module", autouse=True)
def beside_a_cpu_of_ours() -> None:
    """Mends are for the whole process: somebody else's engine in it goes on as it came."""
    Cpu().close()


class Watched:
    """A processor without paging whose accesses to data are recorded."""

    def __init__(self) -> None:
        self.uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
        self.uc.mem_map(0, CODE + SIZE)
        self.seen: list[tuple[bool, int, int]] = []
        self.uc.hook_add(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, self._note)
        self.uc.reg_write(x86.UC_X86_REG_CR4, self.uc.reg_read(x86.UC_X86_REG_CR4) | 0x600)
        self.uc.reg_write(x86.UC_X86_REG_FPCW, 0x37F)
        self.uc.reg_write(x86.UC_X86_REG_FPTAG, 0xFFFF)
        self.uc.reg_write(x86.UC_X86_REG_MXCSR, 0x1F80)
        # maskmovq stores the bytes whose mask has the top bit set.
        self.uc.reg_write(x86.UC_X86_REG_XMM1, (1 << 128) - 1)
        self.start = self.uc.context_save()
        self.at = CODE

    def _note(self, _uc: object, access: int, address: int, size: int, _value: int, _data: object) -> None:
        self.seen.append((access == unicorn.UC_MEM_WRITE, address, size))

    def run(self, code: bytes) -> tuple[Instruction, list[set[int]]] | None:
        """The instruction at a fresh place, and the addresses it read and wrote; None when the engine refuses it."""
        self.at += 32
        found = disassemble(code, self.at, 1)
        if not found or found[0].size > len(code) or _name(found[0]).startswith(NOT_RUN):
            return None
        uc = self.uc
        uc.context_restore(self.start)
        uc.mem_write(self.at, code + bytes(8))
        uc.ctl_remove_cache(self.at, self.at + 32)
        for start in (0, 0xEF00, 0x20000):
            uc.mem_write(start, bytes(0x800))
        for name, value in REGISTERS.items():
            uc.reg_write(getattr(x86, f"UC_X86_REG_{name.upper()}"), value)
        uc.reg_write(x86.UC_X86_REG_EFLAGS, 2)
        self.seen.clear()
        try:
            uc.emu_start(self.at, 0, count=1)
        except unicorn.UcError:
            if not self.seen:
                return None
        return found[0], [_bytes((a, n) for written, a, n in self.seen if written is want) for want in (False, True)]


def _name(instruction: Instruction) -> str:
    words = instruction.text.split()
    prefixes = ("lock", "rep", "repe", "repne", "bnd", "notrack")
    return next((word for word in words if word not in prefixes), "")


def _bytes(ranges) -> set[int]:
    return {address for start, size in ranges for address in range(start, start + size)}


def expected(instruction: Instruction) -> list[set[int]]:
    operands = [(each, each.address(REGISTERS)) for each in instruction.memory]
    return [
        _bytes((at, each.size) for each, at in operands if each.read),
        _bytes((at, each.size) for each, at in operands if each.write),
    ]


def check(watched: Watched, code: bytes) -> str | None:
    """What is wrong, if anything."""
    ran = watched.run(code)
    if ran is None:
        return None
    instruction, seen = ran
    wanted, name = expected(instruction), _name(instruction)
    if name in NOT_IN_THE_ENGINE:
        return None
    if FAR_CALL.search(code) or name == "lcall":
        # It finds the null selector and faults before it pushes.
        seen[1] = wanted[1]
    if name in AREAS:
        agree = all(got <= want for got, want in zip(seen, wanted, strict=True)) and seen[1] | seen[0]
    elif name.startswith(WIDER_IN_THE_ENGINE):
        agree = all(want <= got for got, want in zip(seen, wanted, strict=True))
    else:
        agree = seen == wanted
    if agree:
        return None
    shown = [f"{min(each):x}+{max(each) - min(each) + 1}" if each else "-" for each in (*seen, *wanted)]
    return "{} {}: read {}, wrote {}; expected {}, {}".format(code.hex(), instruction.text, *shown)


@pytest.mark.parametrize(("prefix", "regs"), [("", 8), ("66", 8), ("f2", 2), ("f3", 2), ("67", 2)])
def test_every_opcode_with_a_memory_operand(prefix: str, regs: int) -> None:
    """All of the one-byte map and the 0F map, with values of ModRM.reg, at [ebx] (or [bp+di])."""
    watched = Watched()
    wrong = []
    for opcode in range(0x200):
        start = bytes.fromhex(prefix) + (b"\x0f" if opcode > 0xFF else b"") + bytes((opcode & 0xFF,))
        for reg in range(regs):
            wrong.append(check(watched, start + bytes((reg << 3 | 3,)) + TAIL))
    assert [each for each in wrong if each] == []


def test_the_longer_opcodes() -> None:
    watched = Watched()
    wrong = [
        check(watched, prefix + bytes((0x0F, page, opcode, 0x0B)) + TAIL)
        for page in (0x38, 0x3A)
        for prefix in (b"", b"\x66", b"\xf2")
        for opcode in range(256)
    ]
    assert [each for each in wrong if each] == []


@pytest.mark.parametrize(
    "code",
    [
        "c8100000", "c8100001", "c8100002", "c8100005", "66c8100002",  # enter
        "8f442404", "8f0424", "668f442404", "ff742404", "ff3424",  # pop and push of [esp]
        "0fabcb", "0fab0b", "660fab0b", "0fba2b05", "0fbb4b10", "0fa30b",  # bit offset 0x22
        "d7", "67d7", "660ff7c1", "60", "61", "6660", "6661", "c9", "66c9",
        "a110000200", "67a11000", "a310000200", "8b0d10000200", "8b0c9d00000100", "8b4cb310", "8b4bf0",
        "a4", "a5", "a6", "a7", "aa", "ab", "ac", "ad", "ae", "af", "66a5", "67a4",
        "c3", "c20400", "cb", "ca0400", "e800000000", "66e80000", "ff13", "ff1b", "66ff13",
        "9c", "9d", "06", "07", "1e", "1f", "0fa0", "0fa1", "6a05", "6805000000", "6668aabb",
    ],
)  # fmt: skip
def test_particular_forms(code: str) -> None:
    assert check(Watched(), bytes.fromhex(code)) is None


def test_a_negative_bit_offset_goes_down() -> None:
    """SDM 2A, bit(BitBase, BitOffset): the offset is signed, -1 is the top bit of the bytes below."""
    (wide,) = disassemble(bytes.fromhex("0fa303"), 0)[0].memory  # bt dword [ebx], eax
    assert wide.text() == "[ebx + eax/32*4]"
    for offset, delta in ((0, 0), (31, 0), (32, 4), (-1, -4), (-32, -4), (-33, -8), (0x7FFFFFFF, 0x0FFFFFFC)):
        assert wide.address({"ebx": 0x40000000, "eax": offset & 0xFFFFFFFF}) == 0x40000000 + delta
    (narrow,) = disassemble(bytes.fromhex("660fa303"), 0)[0].memory  # bt word [ebx], ax
    for offset, delta in ((15, 0), (16, 2), (-1, -2), (0x8000, -0x1000)):
        assert narrow.address({"ebx": 0x40000000, "eax": 0xABCD0000 | offset & 0xFFFF}) == 0x40000000 + delta


@pytest.mark.parametrize(
    ("code", "segment"),
    [
        ("8b03", "ds"), ("8b0424", "ss"), ("8b4500", "ss"), ("678b4600", "ss"), ("678b07", "ds"), ("8b0c2b", "ds"),
        ("368b03", "ss"), ("2e8b03", "cs"), ("648b03", "fs"), ("65a100000000", "gs"), ("268b03", "es"),
        ("0ff7c1", "ds"), ("ac", "ds"), ("65ac", "gs"), ("aa", "es"), ("65aa", "es"), ("d7", "ds"), ("50", "ss"),
    ],
)  # fmt: skip
def test_segments(code: str, segment: str) -> None:
    """SDM volume 1, table 3-5: default segments; a store of a string goes to ES whatever the prefix says."""
    assert disassemble(bytes.fromhex(code), 0)[0].memory[0].segment == segment


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("a1000000c0", "[0xc0000000]"),
        ("8b0500f0ffff", "[0xfffff000]"),
        ("8b8300f0ffff", "[ebx - 0x1000]"),
        ("8b048d00f0ffff", "[ecx*4 - 0x1000]"),
        ("d7", "[ebx + al]"),
        ("648b4304", "fs:[ebx + 0x4]"),
    ],
)
def test_text(code: str, text: str) -> None:
    assert disassemble(bytes.fromhex(code), 0)[0].memory[0].text() == text


def test_register_sizes() -> None:
    assert [register_size(name) for name in ("eax", "esp", "ax", "bp", "si", "al", "ah", "bl")] == [
        4, 4, 2, 2, 2, 1, 1, 1,
    ]  # fmt: skip
