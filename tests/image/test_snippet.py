"""Keystone behind its guard: GNU as's bytes or a refusal, for whatever text."""

from __future__ import annotations

import random
import re
import shutil
import string
import subprocess
import sys

import pytest

from sandbox.image.snippet import SnippetError, assemble_lines, snippet
from tests.image.make_keystone_lines import CHOICES as MADE_FROM
from tests.image.make_keystone_lines import LINES, TEMPLATES, gnu_as

needs_gnu_as = pytest.mark.skipif(not shutil.which("as") or not shutil.which("ld"), reason="binutils are not installed")
GARBAGE = [
    "%define",
    "%define x 1",
    '"',
    "'",
    '.ascii "abc',
    ".text",
    ".data",
    ".section .x",
    "label:",
    "label: nop",
    ".long 1",
    "nop nop",
    "mov",
    "mov eax",
    "mov eax,",
    "mov eax, ecx,",
    ", eax",
    "mov eax,, ecx",
    "mov eax ecx",
    "[eax]",
    "mov eax, [",
    "mov eax, ]",
    "mov eax, [eax",
    "mov eax, eax]",
    "mov eax, [[eax]]",
    "mov eax, [eax]]",
    "mov eax, []",
    "mov eax, [+]",
    "mov eax, [eax*3]",
    "mov eax, [eax*]",
    "mov eax, [-eax]",
    "mov eax, [ebx-ecx]",
    "mov eax, [eax+ecx+edx]",
    "mov eax, [esp*2]",
    "mov eax, [bx+si]",
    "mov rax, 1",
    "mov eax, r8d",
    "mov eax, label",
    "mov eax, offset x",
    "mov eax, $",
    "mov eax, $5",
    "mov eax, %eax",
    "movl $1, %eax",
    "mov eax, 0x",
    "mov eax, 0xg",
    "mov eax, 010",
    "mov eax, 1h",
    "mov eax, 10b",
    "mov eax, 0b11",
    "mov eax, --1",
    "mov eax, 1+1",
    "mov eax, 0x100000000",
    "mov eax, 99999999999999999999",
    "mov eax, -0x80000001",
    "mov al, 256",
    "mov al, 0x1000",
    "mov eax, 'a'",
    "mov eax, \u0665",
    "mov \uff45ax, 1",
    "m\u00f6v eax, 1",
    "nop\x00",
    "\x00",
    "\x1b[31m",
    "nop \\",
    "nop /* */",
    "nop // x",
    "rep",
    "lock",
    "lock lock inc eax",
    "rep rep movsb",
    "lock nop eax, eax",
    "bits 64",
    "org 5",
    "db 1",
    "times 9999999 nop",
    "equ 5",
    "x = 5",
    "#nop\nfoo",
    "mov eax, 1" + " " * 300,
    "a" * 100_000,
    "mov eax, " + "1" * 190,
    "mov eax, " + "[" * 150,
    "push word 5",
    "jmp $",
    "jmp .",
    "jmp short 5",
    "jmp far",
    "jmp 8:8:8",
    "call 8",
    "loop 5",
    "mov cr1, eax",
    "mov cr8, eax",
    "mov dr9, eax",
    "pop cs",
    "int 256",
    "int -1",
    "in al, 256",
    "mov eax, cs:",
    "mov eax, xs:[0]",
    "mov eax, hword ptr [eax]",
    "mov eax, byte ptr",
    "movs dword ptr [eax], dword ptr [ecx]",
    "vaddps ymm0, ymm1, ymm2",
    "data16 push 1",
    "addr16 nop",
    "xacquire lock inc dword ptr [eax]",
    "{evex} nop",
    "ud2a",
    "cpuid 5",
]


def attempt(line: str, address: int = 0) -> bytes | None:
    try:
        return snippet(line, address)
    except SnippetError as error:
        assert error.exit_status == 2
        assert "\n" not in error.summary
        return None


def assert_as_gnu_as(lines: list[str], address: int = 0) -> int:
    """Ask both about each line; how many keystone took."""
    taken = [(line, raw) for line in lines if (raw := attempt(line, address)) is not None]
    expected = gnu_as([line for line, _ in taken], address)
    for (line, raw), want in zip(taken, expected, strict=True):
        assert want is not None, f"GNU as refuses {line!r}, which gave {raw.hex()}"
        assert raw.hex() == want.hex(), line
    return len(taken)


def test_recorded_lines_give_the_bytes_of_gnu_as_or_are_refused_with_their_line():
    rows = [row.split("\t") for row in LINES.read_text().splitlines()]
    taken = 0
    for line, want in rows:
        try:
            near = line.startswith(("j", "call"))
            raw = snippet(line) if near else snippet(f"nop\n\n{line}")[1:]
        except SnippetError as error:
            assert error.line in (1, 3)
            assert error.summary.startswith(f"snippet:{error.line}: ")
            continue
        taken += 1
        assert raw.hex() == want, line
    assert len(rows) >= 300
    assert taken / len(rows) >= 0.85


@needs_gnu_as
def test_recorded_lines_are_what_gnu_as_says():
    rows = random.Random(1).sample([row.split("\t") for row in LINES.read_text().splitlines()], 1000)
    assert [raw.hex() if raw else "" for raw in gnu_as([line for line, _ in rows])] == [want for _, want in rows]


def random_line(dice: random.Random) -> str:
    """A line of a known template with registers, numbers and addresses that nobody chose before."""
    template = dice.choice([each for row in TEMPLATES.split("\n") for each in row.split(";") if each])
    sizes = {
        "m": "",
        "m8": "byte ptr ",
        "m16": "word ptr ",
        "m32": "dword ptr ",
        "m48": "fword ptr ",
        "m64": "qword ptr ",
    }
    sizes |= {"m80": "tbyte ptr ", "m128": "xmmword ptr "}
    registers = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"]

    def number() -> str:
        bits = dice.choice((1, 3, 7, 8, 9, 15, 16, 17, 31, 32))
        value = dice.getrandbits(bits)
        if dice.random() < 0.3 and value <= 1 << 31:
            value = -value
        return dice.choice((f"{value}", f"{value:#x}", f"{value:#X}".replace("X", "x")))

    def address() -> str:
        terms = [dice.choice(registers)] if dice.random() < 0.8 else []
        if dice.random() < 0.5:
            terms.append(dice.choice(registers) + dice.choice(("", "*1", "*2", "*4", "*8")))
        if dice.random() < 0.6 or not terms:
            terms.append(number())
        dice.shuffle(terms)
        return dice.choice(("", "", "", "fs:", "gs:", "es:", "ds:", "ss:", "cs:")) + f"[{' + '.join(terms)}]".replace(
            "+ -", "- "
        )

    def choose(match: re.Match[str]) -> str:
        name = match[1]
        if name in sizes:
            return sizes[name] + address()
        if name in ("i", "few"):
            return number()
        numbered = {"xmm": "xmm{}", "mm": "mm{}", "dr": "dr{}", "st": "st({})"}
        if name in numbered:
            return numbered[name].format(dice.randrange(8))
        general = {"r32": registers, "r16": [each[1:] for each in registers]}
        general["r8"] = ["al", "cl", "dl", "bl", "ah", "ch", "dh", "bh"]
        return dice.choice(general.get(name) or MADE_FROM[name].split())

    return re.sub(r"{(\w+)}", choose, template)


@needs_gnu_as
@pytest.mark.parametrize("seed", range(3))
def test_lines_that_were_never_sampled_give_the_bytes_of_gnu_as_or_are_refused(seed):
    dice = random.Random(seed)
    lines = [random_line(dice) for _ in range(6000)]
    assert assert_as_gnu_as(lines, 0x8048000) > 3000


@pytest.mark.parametrize("line", GARBAGE, ids=lambda line: repr(line[:20]))
def test_garbage_is_refused_or_is_what_gnu_as_says(line):
    raw = attempt(line)
    if raw is not None and shutil.which("as"):
        assert gnu_as([line]) == [raw]


@needs_gnu_as
def test_broken_lines_are_refused_or_are_what_gnu_as_says():
    dice = random.Random(2)
    good = [row.split("\t")[0] for row in LINES.read_text().splitlines()]
    letters = string.printable.replace("\n", "").replace(";", "").replace("#", "") + "\u00e9\u0661\u3000\x00"
    lines = []
    for _ in range(8000):
        line = list(dice.choice(good))
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(line) + 1)
            line[at : at + dice.randint(0, 2)] = dice.choice((dice.choice(letters), "", "  ", dice.choice("[]+*-,:x0")))
        lines.append("".join(line))
    lines += ["".join(dice.choices(letters, k=dice.randint(1, 60))) for _ in range(4000)]
    assert assert_as_gnu_as([line for line in lines if line.strip()]) > 100


def test_several_lines_separators_comments_and_addresses():
    text = "mov eax, 1 ; int 0x80 # exit\n# nothing\n\n\tNOP\n"
    assert assemble_lines(text, 0x1000) == [(0x1000, b"\xb8\x01\0\0\0"), (0x1005, b"\xcd\x80"), (0x1007, b"\x90")]
    assert snippet("jmp 0x1000", 0x1000) == b"\xe9\xfb\xff\xff\xff"
    assert snippet("jz 0", 0xFFFFFFFA) == b"\x0f\x84\0\0\0\0"
    assert snippet("") == b""


@pytest.mark.parametrize(
    "text, line", [("nop\nfoo", 2), ("nop; nop\n\n\nmov eax, x", 4), ("lock", 1), ("nop\nx: nop", 2)]
)
def test_a_refusal_names_file_and_line(text, line):
    with pytest.raises(SnippetError, match=rf"^boot\.s:{line}: ") as caught:
        snippet(text, name="boot.s")
    assert caught.value.line == line


def test_at_and_t_syntax_and_impossible_addresses_are_refused():
    with pytest.raises(SnippetError, match="'att'"):
        snippet("nop", syntax="att")
    with pytest.raises(SnippetError, match="32-bit"):
        snippet("nop", 1 << 32)
    with pytest.raises(SnippetError, match="longer"):
        snippet("nop\n" * 50_000)


def test_importing_the_module_loads_neither_keystone_nor_capstone():
    check = "import sys, sandbox.image.snippet; sys.exit(any(n in sys.modules for n in ('keystone', 'capstone')))"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
