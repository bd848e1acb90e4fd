"""Where code leads from an instruction, as far as it can be read: what stepping needs to run at full speed.

Jumps whose targets stand in the instruction are followed.  What only the processor knows (returns, jumps through
registers, gates) is a ``node``: whoever wants to go on from there runs that one instruction and reads on.
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.debug.target import WRAP, Target
from sandbox.image.disassemble import Instruction
from sandbox.records import dataclass, field

MOST = 4096
"""Instructions that are read at a time; what lies behind is a node."""
RETURNS = ("ret", "retf", "iret", "iretd", "iretw")
_GATES = ("int", "int1", "int3", "into", "syscall", "sysenter", "sysexit", "hlt", "ud0", "ud1", "ud2")
_PREFIXES = ("lock", "notrack", "bnd", "data16", "addr16", "addr32")


def word_of(text: str) -> str:
    """The mnemonic of an instruction; ``rep`` is one, other prefixes are none."""
    return next((each for each in text.split() if each not in _PREFIXES), "")


def is_whole(text: str) -> bool:
    """A call or a REP: what ``next`` takes as one instruction."""
    return word_of(text).startswith(("call", "lcall", "rep"))


def is_call(text: str) -> bool:
    return word_of(text) in ("call", "lcall")


def is_return(text: str) -> bool:
    return word_of(text) in RETURNS


def jump_target(instruction: Instruction) -> int | None:
    """Where a jump, a loop or a call leads that says it."""
    _, _, last = instruction.text.rpartition(" ")
    try:
        return int(last, 16) & WRAP if "[" not in instruction.text and ":" not in instruction.text else None
    except ValueError:
        return None


@dataclass(slots=True)
class Reach:
    """What has been read from all places so far.

    ``ends(address)`` says where reading stops since somebody wants to be there; ``stops(text)`` which instructions
    are nodes besides those that must be.
    """

    target: Target
    ends: Callable[[int], bool]
    stops: Callable[[str], bool]
    places: set[int] = field(default_factory=set)
    """Ends that were found."""
    nodes: set[int] = field(default_factory=set)
    """Instructions that are to be run by themselves."""
    _read: set[int] = field(default_factory=set)

    def read_from(self, first: int) -> None:
        """Read on behind the instruction at ``first``, which is about to run."""
        code = self.target.code(first, 1)
        waiting = self._behind(code[0]) if code else []
        left = MOST
        while waiting:
            at = waiting.pop()
            if at in self._read:
                continue
            self._read.add(at)
            left -= 1
            waiting += self._look(at, left)

    def _look(self, at: int, left: int) -> list[int]:
        """What comes behind an instruction that is read now."""
        if self.ends(at):
            self.places.add(at)
            return []
        code = self.target.code(at, 1)
        if not code or left < 0 or self.is_node(code[0]):
            self.nodes.add(at)
            return []
        return self._behind(code[0])

    def is_node(self, instruction: Instruction) -> bool:
        """Only the processor knows where this leads, or somebody wants to see it run."""
        text, word = instruction.text, word_of(instruction.text)
        unknown = word in ("jmp", "ljmp") and jump_target(instruction) is None
        return unknown or word in RETURNS or word in _GATES or self.stops(text)

    def _behind(self, instruction: Instruction) -> list[int]:
        word, after = word_of(instruction.text), instruction.address + instruction.size & WRAP
        target = jump_target(instruction)
        if word in ("jmp", "ljmp"):
            return [] if target is None else [target]
        if word in RETURNS:
            return []
        if word[:1] == "j" or word.startswith("loop"):
            return [after] if target is None else [after, target]
        return [after]
