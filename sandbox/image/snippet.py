"""Snippets of assembly to bytes, by keystone behind a guard.

GNU as where it is installed is what tools that build images use (:mod:`sandbox.image.assemble`); keystone is for
snippets in tests, in the debugger, and on machines without binutils.

Keystone alone miscodes some lines, drops others without a word, never returns from a few and ends the process on one.
So it never sees text that a user wrote:

    line -> mnemonic and operands by a strict grammar -> shape -> verified? -> written anew, every number as 0x... ->
    keystone, one line at a time -> capstone must see exactly one instruction of that length

A shape is a mnemonic with the kinds of its operands, ``add r32 s8``.  ``snippet_shapes.txt`` lists those for which
keystone gave the bytes of GNU as in every sample of ``tests/image/make_keystone_lines.py``; all others are refused.
Near jumps to a number are coded here with 32-bit displacements, because keystone picks short forms and GNU as does not;
so are far jumps, prefixes, the order of prefixes, and the few plain instructions that keystone does not know.  Where
Intel syntax makes it add an operand-size prefix that does not belong (``lgdt``, ``push ds``), that is taken off again.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from sandbox.records import dataclass
from sandbox.x86.errors import SandboxError
from sandbox.x86.instruction import ADDRESS_SIZE, LOCK, OPERAND_SIZE, REP, REPNE, SEGMENT_PREFIXES

SHAPES = Path(__file__).with_name("snippet_shapes.txt")
LONGEST_LINE = 200
LONGEST_TEXT = 1 << 16
PREFIXES = {"lock": LOCK, "rep": REP, "repe": REP, "repz": REP, "repne": REPNE, "repnz": REPNE}
WAIT = 0x9B
REGISTERS = {
    name: kind
    for kind, names in {
        "r32": "eax ecx edx ebx esp ebp esi edi", "r16": "ax cx dx bx sp bp si di", "r8": "al cl dl bl ah ch dh bh",
        "dr": "dr0 dr1 dr2 dr3 dr6 dr7", "mm": "mm0 mm1 mm2 mm3 mm4 mm5 mm6 mm7",
        "xmm": "xmm0 xmm1 xmm2 xmm3 xmm4 xmm5 xmm6 xmm7",
        "st": "st(1) st(2) st(3) st(4) st(5) st(6) st(7)",
    }.items()
    for name in names.split()
}  # fmt: skip
# Registers with encodings of their own are a kind each.
REGISTERS |= {
    name: name
    for name in ["al", "ax", "eax", "cl", "dx", "cs", "ds", "es", "fs", "gs", "ss", "cr0", "cr2", "cr3", "cr4"]
}
REGISTERS |= {"st": "st0", "st(0)": "st0"}
_GENERAL = {name for name, kind in REGISTERS.items() if kind in ("r32", "eax")}
_SIZES = {"byte": "8", "word": "16", "dword": "32", "fword": "48", "qword": "64", "tbyte": "80", "xmmword": "128"}
_NUMBER = re.compile(r"(-?)(0x[0-9a-f]+|0|[1-9][0-9]*)\Z", re.ASCII)
_FAR = re.compile(r"(\w+) ?[:,] ?(\w+)\Z", re.ASCII)
_MEMORY = re.compile(r"(?:([a-z]+) ptr )?(?:([c-gs]s):)?\[([^][]*)\]\Z", re.ASCII)
_BARE = re.compile(r"(.*\b[c-gs]s:)(\w+)\Z", re.ASCII)
_TERM = re.compile(r"([+-]?)([a-z0-9*]+)", re.ASCII)
_MNEMONIC = re.compile(r"[a-z][a-z0-9]*\Z", re.ASCII)
_CONDITIONS = "o;no;b c nae;nb nc ae;z e;nz ne;be na;nbe a;s;ns;p pe;np po;l nge;nl ge;le ng;nle g"
_BRANCHES = {"jmp": b"\xe9", "call": b"\xe8"} | {
    f"j{name}": bytes((0x0F, 0x80 + code))
    for code, names in enumerate(_CONDITIONS.split(";"))
    for name in names.split()
}
_FAR_CODES = {"jmp": b"\xea", "ljmp": b"\xea", "call": b"\x9a", "lcall": b"\x9a"}
_UNKNOWN_TO_KEYSTONE = {
    "movsd": b"\xa5", "xlat": b"\xd7", "lret": b"\xcb", "iretw": b"\x66\xcf", "pushfw": b"\x66\x9c",
    "popfw": b"\x66\x9d", "endbr32": b"\xf3\x0f\x1e\xfb",
}  # fmt: skip
_SIZE_TOO_MUCH = re.compile(
    r"(?:(?:lgdt|lidt|sgdt|sidt) ma?|iret|pushf|popf|(?:push|pop) .s|mov .s (?:ax|dx|r16)|mov m(?:16)?a? .s)\Z",
    re.ASCII,
)


class SnippetError(SandboxError):
    """A line that is not assembled: not understood, or of a form in which keystone is not trusted."""

    exit_status = 2

    def __init__(self, what: str, name: str = "snippet", line: int = 1) -> None:
        super().__init__(f"{name}:{line}: {what}")
        self.line = line


@dataclass(frozen=True, slots=True)
class Statement:
    """One instruction.  ``text`` is what keystone gets; ``forms`` are the shapes that must all be verified."""

    line: int
    text: str
    forms: tuple[str, ...] = ()
    prefix: str = ""
    near: int | None = None
    """Linear address to which a near branch goes."""
    far: tuple[int, int] | None = None
    """Selector and offset to which a far branch goes."""

    @property
    def mnemonic(self) -> str:
        return self.text.partition(" ")[0]


def snippet(text: str, address: int = 0, syntax: str = "intel", name: str = "snippet") -> bytes:
    """The bytes of Intel-syntax ``text`` at a linear address, as GNU as would give them.

    Statements are separated by newlines or ``;``; ``#`` begins a comment; there are no labels and no directives.
    ``name`` stands for the file in messages.  Raises SnippetError with file and line.
    """
    return b"".join(raw for _, raw in assemble_lines(text, address, syntax, name))


def assemble_lines(
    text: str, address: int = 0, syntax: str = "intel", name: str = "snippet"
) -> list[tuple[int, bytes]]:
    """(linear address, bytes) of each instruction.  Raises SnippetError."""
    if syntax != "intel":
        raise SnippetError(f"syntax {syntax!r}: only 'intel' is assembled here", name)
    if not 0 <= address <= 0xFFFFFFFF:
        raise SnippetError(f"address {address:#x} is not a 32-bit address", name)
    if len(text) > LONGEST_TEXT:
        raise SnippetError(f"longer than {LONGEST_TEXT} characters", name)
    done = []
    for statement in parse(text, name):
        raw = _encode(statement, address, name)
        done.append((address, raw))
        address += len(raw)
        if address > 1 << 32:
            raise SnippetError(f"{statement.text}: reaches beyond the last address", name, statement.line)
    return done


def parse(text: str, name: str = "snippet") -> list[Statement]:
    """The statements of a text, checked by the grammar but not yet against the verified shapes.

    Raises SnippetError with file and line.
    """
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        code = line.partition("#")[0].replace("\t", " ").rstrip("\r")
        if len(code) > LONGEST_LINE:
            raise SnippetError(f"longer than {LONGEST_LINE} characters", name, number)
        if not code.isascii() or not code.replace(" ", "x").isprintable():
            raise SnippetError("only printable ASCII characters are allowed", name, number)
        for piece in code.split(";"):
            if piece.strip():
                try:
                    found.append(_statement(" ".join(piece.lower().split()), number))
                except ValueError as error:
                    raise SnippetError(f"{piece.strip()[:60]}: {error}", name, number) from None
    return found


def _statement(text: str, line: int) -> Statement:
    words = text.split(" ")
    prefix = words.pop(0) if words[0] in PREFIXES and len(words) > 1 else ""
    mnemonic, rest = words[0], " ".join(words[1:])
    if not _MNEMONIC.match(mnemonic):
        raise ValueError("a label or a directive; only instructions are assembled here")
    if not prefix and mnemonic in _BRANCHES and _NUMBER.match(rest):
        return Statement(line, f"{mnemonic} {rest}", near=_number(rest))
    if not prefix and mnemonic in _FAR_CODES and (far := _FAR.match(rest)) and all(map(_NUMBER.match, far.groups())):
        selector, offset = map(_number, far.groups())
        if ("," in rest) == mnemonic.startswith("l") and selector <= 0xFFFF:
            return Statement(line, f"{mnemonic} {rest}", far=(selector, offset))
    kinds, texts, forms = [f"{prefix} {mnemonic}".strip()], [], []
    for operand in rest.split(",") if rest else []:
        kind, written, form = _operand(operand.strip())
        kinds.append(kind)
        texts.append(written)
        forms += [form] if form else []
    return Statement(line, f"{mnemonic} {', '.join(texts)}".strip(), (" ".join(kinds), *forms), prefix)


def _operand(text: str) -> tuple[str, str, str]:
    """Kind, text for keystone, and the form of address of a memory operand."""
    if text in REGISTERS:
        return REGISTERS[text], text, ""
    if _NUMBER.match(text):
        value = _number(text)
        return _class_of(value), _hex(value), ""
    text = re.sub(r"\s*([][+*:-])\s*", r"\1", text).replace("ptr[", "ptr [")
    if (bare := _BARE.match(text)) and _NUMBER.match(bare[2]):
        text = f"{bare[1]}[{bare[2]}]"
    match = _MEMORY.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no operand that is known here")
    size, segment, inside = match.groups()
    if size is not None and size not in _SIZES:
        raise ValueError(f"{size!r} is no size that is known here")
    base, index, scale, displacement = _address(inside)
    form, parts = "", []
    if base:
        form, parts = "esp" if base == "esp" else "ebp" if base == "ebp" else "base", [base]
    if index:
        form += "+index" if scale > 1 else "+index*1"
        parts.append(f"{index}*{scale}")
    if displacement or not parts:
        form += ("+" + _reach_of(displacement)) if parts else "absolute"
        parts.append(_hex(displacement))
    written = f"{size} ptr " if size else ""
    written += f"{segment}:" if segment else ""
    kind = "m" + (_SIZES[size] if size else "") + ("" if base or index else "a")
    return kind, f"{written}[{' + '.join(parts).replace('+ -', '- ')}]", f"[{segment + ':' if segment else ''}{form}]"


def _address(inside: str) -> tuple[str, str, int, int]:
    base = index = ""
    scale, displacement, at = 1, 0, 0
    while at < len(inside):
        match = _TERM.match(inside, at)
        if match is None or (at and not match[1]):
            raise ValueError(f"[{inside}] is no address that is known here")
        at = match.end()
        sign, word = match.groups()
        register, star, factor = word.partition("*")
        if _NUMBER.match(word):
            displacement += _number(sign.replace("+", "") + word)
        elif sign == "-" or register not in _GENERAL or (star and factor not in ("1", "2", "4", "8")):
            raise ValueError(f"[{inside}] is no address that is known here")
        elif not star and not base:
            base = register
        elif not index and register != "esp":
            index, scale = register, int(factor or 1)
        else:
            raise ValueError(f"[{inside}] is no address that is known here")
    if not inside:
        raise ValueError("[] is no address")
    _hex(displacement)
    return base, index, scale, displacement


def _number(text: str) -> int:
    value = int(text, 0)
    if not -(1 << 31) <= value < 1 << 32:
        raise ValueError(f"{text[:20]} does not fit in 32 bits")
    return value


def _hex(value: int) -> str:
    if not -(1 << 31) <= value < 1 << 32:
        raise ValueError("a displacement that does not fit in 32 bits")
    return f"-{-value:#x}" if value < 0 else f"{value:#x}"


def _reach_of(displacement: int) -> str:
    return "8" if -0x80 <= displacement <= 0x7F else "32" if displacement <= 0x7FFFFFFF else "wrapped"


def _class_of(value: int) -> str:
    """Numbers among which neither assembler changes its choice of an encoding are one class."""
    if value in (0, 1, 3):
        return str(value)
    for name, first, last in CLASSES:
        if first <= value <= last:
            return name
    raise ValueError(f"{value:#x} does not fit in 32 bits")


CLASSES = (
    ("s8", 0, 0x7F), ("u8", 0x80, 0xFF), ("s16", 0x100, 0x7FFF), ("u16", 0x8000, 0xFF7F), ("w8", 0xFF80, 0xFFFF),
    ("s32", 0x10000, 0x7FFFFFFF), ("u32", 0x80000000, 0xFFFFFF7F), ("d8", 0xFFFFFF80, 0xFFFFFFFF),
    ("n8", -0x80, -1), ("n16", -0x8000, -0x81), ("n32", -0x80000000, -0x8001),
)  # fmt: skip


@functools.cache
def verified_shapes() -> frozenset[str]:
    """What ``snippet_shapes.txt`` lists: ``add r32 s8`` for an instruction, ``[base+s8]`` for a form of address."""
    return frozenset(line for line in SHAPES.read_text("ascii").splitlines() if line and not line.startswith("#"))


@functools.cache
def _mnemonics() -> frozenset[str]:
    words = (shape.split(" ") for shape in verified_shapes())
    return frozenset(each[1] if each[0] in PREFIXES else each[0] for each in words)


@functools.cache
def _assembler() -> Any:
    import keystone

    return keystone.Ks(keystone.KS_ARCH_X86, keystone.KS_MODE_32)


@functools.cache
def _disassembler() -> Any:
    import capstone

    return capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32)


def ask_keystone(statement: Statement, address: int = 0) -> bytes:
    """The bytes that keystone gives, put in GNU as's order; empty if it refuses or drops the line.

    Only for statements from ``parse``; whether the shape is verified is not asked here.
    """
    import keystone

    if statement.text in _UNKNOWN_TO_KEYSTONE:
        raw = _UNKNOWN_TO_KEYSTONE[statement.text]
    else:
        try:
            coded, count = _assembler().asm(statement.text, address)
        except keystone.KsError:
            return b""
        if not coded or count != 1:
            return b""
        raw = bytes(coded)
    segment = b""
    if raw[:1] in (OPERAND_SIZE, ADDRESS_SIZE) and raw[1] in SEGMENT_PREFIXES:
        raw = raw[1:2] + raw[:1] + raw[2:]
    if raw[0] in SEGMENT_PREFIXES:
        segment, raw = raw[:1], raw[1:]
    shape = statement.forms[0].removeprefix(f"{statement.prefix} ")
    if raw[:1] == OPERAND_SIZE and _SIZE_TOO_MUCH.match(shape):
        raw = raw[1:]
    size = raw[:1] if raw[:1] == OPERAND_SIZE else b""
    return segment + size + PREFIXES.get(statement.prefix, b"") + raw[len(size) :]


def encode(statement: Statement, address: int) -> bytes:
    """One statement's bytes, without a look at the verified shapes; empty if they are not one instruction."""
    if statement.near is not None:
        code = _BRANCHES[statement.mnemonic]
        distance = statement.near - address - len(code) - 4
        return code + (distance & 0xFFFFFFFF).to_bytes(4, "little")
    if statement.far is not None:
        selector, offset = (each & 0xFFFFFFFF for each in statement.far)
        return _FAR_CODES[statement.mnemonic] + offset.to_bytes(4, "little") + (selector & 0xFFFF).to_bytes(2, "little")
    raw = ask_keystone(statement, address)
    # The forms of the x87 that wait first are two instructions to a disassembler.
    body = raw[1:] if len(raw) > 1 and raw[0] == WAIT else raw
    seen = list(_disassembler().disasm_lite(body, address))
    return raw if len(seen) == 1 and seen[0][1] == len(body) else b""


def _encode(statement: Statement, address: int, name: str) -> bytes:
    if statement.forms and statement.mnemonic not in _mnemonics():
        raise SnippetError(f"{statement.mnemonic}: not an instruction that is known here", name, statement.line)
    for form in statement.forms:
        if form not in verified_shapes():
            raise SnippetError(
                f"{statement.text}: the form '{form}' is not verified; GNU as may know it", name, statement.line
            )
    raw = encode(statement, address)
    if not raw:
        raise SnippetError(f"{statement.text}: keystone did not assemble it", name, statement.line)
    return raw
