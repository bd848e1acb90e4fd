"""Back over calls: which of the instructions that ran last is the one before, a call or REP taken as one."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox.debug.reach import is_call, word_of
from sandbox.debug.stops import Moment
from sandbox.debug.target import WRAP, Target
from sandbox.records import dataclass, field

MOST_SEEN = 1 << 18
"""Instructions that are remembered on a way back."""
LONGEST_CALL = 7
NEAR = 1 << 12
"""Bytes by which one instruction may move ESP on the same stack."""
_JUMPS = ("j", "loop")
_RETURNS, _BROKEN_OFF = ("ret", "retf"), ("iret", "iretd", "iretw", "int", "sysenter")


@dataclass(frozen=True, slots=True)
class Ran:
    """An instruction as it was about to run: its mnemonic, the address behind it, ESP and the ring.

    ``to`` is where a direct jump leads, -1 for any other.
    ``edits`` is how much of what a person has set was in the machine.
    """

    moment: Moment
    edits: int
    word: str = ""
    after: int = 0
    esp: int = 0
    cpl: int = 0
    to: int = -1


def ran(target: Target, moment: Moment, edits: int) -> Ran:
    """The one that comes next."""
    code = target.code(moment.eip, 1)
    text = code[0].text if code else ""
    word = word_of(text)
    return Ran(
        moment,
        edits,
        word,
        moment.eip + (code[0].size if code else 0) & WRAP,
        target.context.esp & WRAP,
        target.context.cpl,
        int(text.split()[-1], 16) if word.startswith(_JUMPS) and text.split()[-1].startswith("0x") else -1,
    )


def call_sites(target: Target, back: int) -> list[int]:
    """Where a CALL may lie that returns to an address."""
    sites = []
    for size in range(2, LONGEST_CALL + 1):
        code = target.code(back - size & WRAP, 1)
        if code and code[0].size == size and is_call(code[0].text):
            sites.append(back - size & WRAP)
    return sites


@dataclass(slots=True)
class Back:
    """The way back through ``seen``, in the order in which it ran; the last of it is where it begins.

    Where a call is not among them, ``calls`` are the places where it may lie, and ``esp`` is what ESP was there.
    """

    seen: Sequence[Ran]
    target: Target
    count: int = 0
    calls: list[int] = field(default_factory=list)
    esp: int = 0
    _at: int = -1

    def __post_init__(self) -> None:
        self._at = len(self.seen) - 1

    @property
    def here(self) -> Ran:
        return self.seen[self._at]

    def one(self) -> bool:
        """Back by one; False where that is not among what was seen."""
        before = self._before()
        if before is None:
            return False
        self._at, self.count = before, self.count + 1
        return True

    def _before(self) -> int | None:
        at = self._at - 1
        if at < 0:
            return None
        last, here = self.seen[at], self.seen[self._at]
        if last.word in _RETURNS:
            return self._call_of(at, here)
        if last.word.startswith("rep"):
            return self._first_of_rep(at)
        broken_off = last.word in _BROKEN_OFF and here.moment.eip != last.after
        return self._not_deeper(at, here) if broken_off else at

    def _call_of(self, at: int, here: Ran) -> int | None:
        """The call from which a RET has come back; the RET itself where no call can have been."""
        esp, sites = self.seen[at].esp + 4 & WRAP, call_sites(self.target, here.moment.eip)
        for number in range(at - 1, -1, -1):
            each = self.seen[number]
            if each.moment.eip in sites and each.esp == esp:
                return number
        self.calls, self.esp = sites, esp
        return None if sites else at

    def _first_of_rep(self, at: int) -> int | None:
        eip = self.seen[at].moment.eip
        while at >= 0 and self.seen[at].moment.eip == eip:
            at -= 1
        return at + 1 if at >= 0 else None

    def _not_deeper(self, at: int, here: Ran) -> int | None:
        """Before an interrupt or a signal came: in the same ring, where what follows lies behind, on the same stack.

        A handler has another stack in another ring, or as it asked for by sigaltstack(2): only where the code before
        is no predecessor by its address (an indirect jump) the stack has to tell.
        """
        same = [number for number in range(at, -1, -1) if self.seen[number].cpl == here.cpl]
        near = [number for number in same if abs(self.seen[number].esp - here.esp) < NEAR]
        eip = here.moment.eip
        straight = (number for number in near if eip in (self.seen[number].after, self.seen[number].to))
        return next(straight, next((number for number in near if self.seen[number].esp >= here.esp), None))
