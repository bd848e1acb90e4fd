"""Forms of instructions, in the notation of the opcode maps (SDM 2D, appendix A): a line a form.

``add 00 Eb,Gb`` is a mnemonic, mandatory prefix and opcode bytes, operands.  ``80/0`` has an opcode extension in
ModRM; ``50+`` a register in its last three bits.  Operand letters: E register or memory by ModRM, G register, M memory
only, R register only, I immediate, J relative, O offset, A far pointer, S segment register, P and Q MMX, N MMX register
only, V and W XMM, U XMM register only; what is written in capitals and digits is implied by the opcode.  Sizes: b, w,
d, q, t (ten bytes), x (sixteen), v (4, or 2 with 66h), z (the same for immediates), p (6, or 4), a number of bytes.
"""

from __future__ import annotations

from sandbox.records import dataclass

_MODRM = "EGMRSPQNVWU"
_MEMORY = "EMQW"
_SIZES = {"b": 1, "w": 2, "d": 4, "q": 8, "t": 10, "x": 16, "v": 4, "z": 4, "p": 6}
_MANDATORY = ("66", "F2", "F3")


@dataclass(frozen=True, slots=True)
class Form:
    """``extension`` is ModRM's reg field where the opcode needs one, else -1; ``added``: a register in the opcode."""

    family: str
    mnemonic: str
    prefix: bytes
    opcode: bytes
    extension: int
    added: bool
    operands: tuple[str, ...]

    @property
    def name(self) -> str:
        """``add Eb,Gb``: what tables are by."""
        return f"{self.mnemonic} {','.join(self.operands)}".rstrip()

    @property
    def modrm(self) -> bool:
        return self.extension >= 0 or any(each[0] in _MODRM for each in self.operands if explicit(each))

    @property
    def memory(self) -> str:
        """The operand that may be memory, or ''."""
        return next((each for each in self.operands if each[0] in _MEMORY and explicit(each)), "")

    @property
    def sized(self) -> bool:
        """66h makes operands of 16 bits of it."""
        return not self.prefix and any(each == "EAX" or each[-1] in "vzp" for each in self.operands)

    def width(self, operand: str, narrow: bool = False) -> int:
        """Bytes of an operand."""
        if operand[1:].isdigit():
            return int(operand[1:])
        size = _SIZES[operand[1]]
        return {"v": 2, "z": 2, "p": 4}.get(operand[1], size) if narrow else size


def explicit(operand: str) -> bool:
    """The code says which it is, or where."""
    return operand[1:2].islower() or operand[1:].isdigit()


def parse(family: str, text: str) -> list[Form]:
    """The forms of a table."""
    return [_line(family, line.split()) for line in text.split("\n") if line.strip()]


def _line(family: str, words: list[str]) -> Form:
    mnemonic, *rest = words
    prefix = bytes.fromhex(rest.pop(0)) if rest[0] in _MANDATORY and len(rest) > 1 and _is_opcode(rest[1]) else b""
    opcode, _, extension = rest.pop(0).partition("/")
    return Form(
        family,
        mnemonic,
        prefix,
        bytes.fromhex(opcode.rstrip("+")),
        int(extension) if extension else -1,
        opcode.endswith("+"),
        tuple(rest[0].split(",")) if rest else (),
    )


def _is_opcode(word: str) -> bool:
    return all(each in "0123456789ABCDEF" for each in word.partition("/")[0].rstrip("+"))
