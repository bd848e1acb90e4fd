"""What single instructions need to reach more than a fault: counts, dividends, targets, selectors."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from sandbox.records import dataclass, field
from sandbox.semantics import values
from sandbox.semantics.forms import Form
from sandbox.semantics.vector import (
    CODE_SELECTOR,
    DATA,
    DATA_SELECTOR,
    EAX,
    EBP,
    EBX,
    ECX,
    EDI,
    EDX,
    ESI,
    ESP,
    LOW,
    READ_ONLY,
    SLOT,
    STACK,
    WRITABLE,
    Fpu,
)
from sandbox.x86.masks import DF, IF, STATUS_FLAGS
from sandbox.x86.paging import PAGE_SIZE

SELECTORS = (DATA_SELECTOR, DATA_SELECTOR, CODE_SELECTOR, 0, 3, 0x08, 0x10, 0x18, 0x28, 0xFFF8, 0x2F)
"""Good ones, null ones, the kernel's, one beyond the table, one of the LDT that is not there."""
_WHOLE = ("j", "loop", "call", "ret", "iret", "lj", "lc", "pop", "enter", "leave")


@dataclass(slots=True)
class Draft:
    """A vector in the making.  ``content`` is what its memory operand shall hold, ``immediate`` and ``reg`` (ModRM's)
    what they shall be (-1: anything), ``whole``: without 66h and 67h, which would lead out of the arena,
    ``target_operand``: where its memory operand shall be (0: anywhere)."""

    form: Form
    rng: random.Random
    at: int
    eip: int
    registers: list[int] = field(default_factory=list)
    memory: list[tuple[int, bytes]] = field(default_factory=list)
    fpu: Fpu | None = None
    code: bytes = b""
    operand: int = 0
    content: bytes = b""
    immediate: int = -1
    reg: int = -1
    whole: bool = False
    target_operand: int = 0
    code16: bool = False
    """In a code segment of 16 bits, where 66h and 67h are for 32; ``eip`` is an offset in it."""

    def put(self, address: int, data: bytes) -> None:
        """Let the arena's writable areas hold bytes, as far as they reach."""
        for first, pages in WRITABLE:
            end = first + pages * PAGE_SIZE
            if first <= address < end:
                self.memory.append((address, data[: end - address]))

    def target(self) -> int:
        """An address in the vector's own slot, but not in its code."""
        slot = self.eip & -SLOT
        return self.rng.choice((slot + self.rng.randrange(16), slot + 40 + self.rng.randrange(16)))

    def jump(self, size: int) -> bytes:
        """A displacement from the end of the instruction, prefixes or not, to near ``target``."""
        length = len(self.form.opcode) + size
        return (self.target() - self.eip - length & (1 << 8 * size) - 1).to_bytes(size, "little")

    def far_pointer(self, narrow: bool) -> bytes:
        selector = CODE_SELECTOR if self.rng.randrange(4) else self.selector()
        return struct.pack("<HH" if narrow else "<IH", self.target() & (0xFFFF if narrow else 0xFFFFFFFF), selector)

    def selector(self) -> int:
        return self.rng.choice(SELECTORS)


def prepare(draft: Draft) -> None:
    """Set what the form needs; the addressing of its memory operand comes later, and may take registers back."""
    name = draft.form.mnemonic
    draft.whole = name.startswith(_WHOLE) and draft.rng.randrange(6) > 0
    if name in ("movsd", "cmpsd") and draft.form.family == "integer":
        _string(draft)
        return
    for prefix, setup in _SETUPS.items():
        if name.startswith(prefix):
            setup(draft)
            return


def _shift(draft: Draft) -> None:
    """Every count, and then any."""
    count = draft.at if draft.at < 256 else draft.rng.getrandbits(8)
    draft.registers[ECX] = draft.registers[ECX] & ~0xFF | count
    draft.immediate = count


def _divide(draft: Draft) -> None:
    """Half of the quotients fit."""
    rng = draft.rng
    if rng.getrandbits(1):
        draft.registers[EDX] = rng.randrange(16)
        draft.registers[EAX] = rng.getrandbits(rng.randrange(1, 33))
    elif rng.getrandbits(1):
        draft.registers[EDX] = 0xFFFFFFFF - rng.randrange(16)


def _string(draft: Draft) -> None:
    rng = draft.rng
    draft.registers[ECX] = rng.randrange(40) if rng.randrange(16) else rng.choice((0, 0x10000, 5000, 0x10002))
    for each in (ESI, EDI):
        draft.registers[each] = DATA + rng.randrange(2 * PAGE_SIZE)
        if rng.randrange(8) == 0:
            draft.registers[each] = rng.choice((READ_ONLY - 8, READ_ONLY + PAGE_SIZE - 8, LOW + 16, DATA + 4))
    if rng.getrandbits(1):
        same = bytes([rng.choice((0, 0xFF, 0x55))]) * 48
        for each in (ESI, EDI):
            draft.put(draft.registers[each] - 48, same + same[: rng.randrange(48)])
        draft.registers[EAX] = same[0] * 0x01010101


def _stack_top(draft: Draft, *words: int) -> None:
    draft.registers[ESP] = STACK + 0x1000 + draft.rng.randrange(-64, 64) * 4
    draft.put(draft.registers[ESP], struct.pack(f"<{len(words)}I", *words))


def _return(draft: Draft) -> None:
    draft.immediate = draft.rng.randrange(64)
    _stack_top(draft, draft.target())


def _far_return(draft: Draft) -> None:
    draft.immediate = draft.rng.randrange(64)
    selector = CODE_SELECTOR if draft.rng.randrange(4) else draft.selector()
    _stack_top(draft, draft.target(), selector, _flags_image(draft))


def _flags_image(draft: Draft) -> int:
    """Without TF, NT, RF, VM, AC and ID: what single steps and checks of alignment do is not one instruction's."""
    return draft.rng.getrandbits(32) & (STATUS_FLAGS | DF | IF | 0x3000) | 2


def _pop_flags(draft: Draft) -> None:
    _stack_top(draft, _flags_image(draft))


def _pop(draft: Draft) -> None:
    if draft.form.operands[0] in ("ES", "DS", "FS", "GS"):
        _stack_top(draft, draft.selector())


def _jump(draft: Draft) -> None:
    """Indirect: to the slot, whichever register it is."""
    rng, target = draft.rng, draft.target()
    if draft.form.operands[0].startswith("M"):
        draft.content = draft.far_pointer(False)
    elif draft.form.operands[0].startswith("E") and rng.randrange(8):
        draft.content = struct.pack("<I", target)
        draft.registers[:] = [target if each != ESP else draft.registers[ESP] for each in range(8)]


def _load_pointer(draft: Draft) -> None:
    draft.content = struct.pack("<IH", values.integer(draft.rng, draft.at), draft.selector())
    draft.whole = True


def _selector_operand(draft: Draft) -> None:
    value = draft.selector()
    draft.content = struct.pack("<H", value)
    for each in range(8):
        if each != ESP:
            draft.registers[each] = draft.registers[each] & 0xFFFF0000 | value


def _move(draft: Draft) -> None:
    if draft.form.operands[0] == "Sw":
        _selector_operand(draft)


def _loop(draft: Draft) -> None:
    if draft.rng.getrandbits(1):
        draft.registers[ECX] = draft.rng.randrange(3)


def _enter(draft: Draft) -> None:
    """EBP in the stack, where levels are copied from; both immediates come from one value, the level's low."""
    draft.registers[EBP] = STACK + 0x1000 + draft.rng.randrange(-32, 32) * 4
    if draft.form.mnemonic == "enter":
        draft.immediate = draft.rng.choice((0, 1, 2, 3, 31, 32, 0x21, 8, draft.rng.getrandbits(8)))


def _interrupt(draft: Draft) -> None:
    draft.immediate = draft.rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 13, 14, 0x20, 0x7F, 0x81, 0xFF))


def _predicate(draft: Draft) -> None:
    """All of SSE's eight, and beyond: bits above them are ignored."""
    draft.immediate = draft.at % 8 if draft.rng.randrange(8) else draft.rng.getrandbits(8)


def _bound(draft: Draft) -> None:
    draft.content = struct.pack("<2i", -draft.rng.randrange(1 << 20), draft.rng.randrange(1 << 30))


def _translate(draft: Draft) -> None:
    draft.registers[EBX] = DATA + draft.rng.randrange(2 * PAGE_SIZE)


def _mask_move(draft: Draft) -> None:
    draft.registers[EDI] = DATA + draft.rng.randrange(2 * PAGE_SIZE - 16)


def _compare_exchange(draft: Draft) -> None:
    if draft.rng.getrandbits(1):
        draft.content = struct.pack("<2I", draft.registers[EAX], draft.registers[EDX])


def _bit(draft: Draft) -> None:
    """A bit's number reaches far from the operand: kept in the arena, but for some."""
    rng = draft.rng
    if rng.randrange(8):
        draft.registers[:] = [rng.randrange(-512, 512) if each != ESP else draft.registers[ESP] for each in range(8)]


def _control_word(draft: Draft) -> None:
    draft.content = struct.pack("<H", draft.rng.getrandbits(16))


def _environment(draft: Draft) -> None:
    words = [draft.rng.getrandbits(16), draft.rng.getrandbits(16), draft.rng.getrandbits(16), 0, 0, 0, 0]
    draft.content = struct.pack("<7I", *words)
    draft.content += b"".join(values.extended(draft.rng) for _ in range(8 if draft.form.mnemonic == "frstor" else 0))


def _mxcsr(draft: Draft) -> None:
    draft.content = struct.pack("<I", draft.rng.getrandbits(16) | (draft.rng.randrange(8) == 0) << 16)


def _fxrstor(draft: Draft) -> None:
    """FSW, FCW and MXCSR that can be, anything else."""
    head = struct.pack("<HHBBHQQII", 0x37F, draft.rng.getrandbits(14) & 0x3840, 0xFF, 0, 0, 0, 0, 0x1F80, 0xFFFF)
    draft.content = head + draft.rng.randbytes(512 - len(head))


_SETUPS: dict[str, Callable[[Draft], None]] = {
    **dict.fromkeys(("rol", "ror", "rcl", "rcr", "shl", "shr", "sar"), _shift),
    **dict.fromkeys(("div", "idiv"), _divide),
    **dict.fromkeys(("movsb", "cmpsb", "stos", "lods", "scas", "ins", "outs"), _string),
    "retf": _far_return,
    "ret": _return,
    "iret": _far_return,
    "popfd": _pop_flags,
    "pop": _pop,
    **dict.fromkeys(("jmp", "call"), _jump),
    **dict.fromkeys(("les", "lds", "lss", "lfs", "lgs"), _load_pointer),
    **dict.fromkeys(("lar", "lsl", "verr", "verw", "arpl"), _selector_operand),
    "maskmov": _mask_move,
    "mov": _move,
    **dict.fromkeys(("loop", "jecxz"), _loop),
    **dict.fromkeys(("enter", "leave"), _enter),
    "int": _interrupt,
    "bound": _bound,
    **dict.fromkeys(("cmpps", "cmpss", "cmppd", "cmpsd"), _predicate),
    "xlat": _translate,
    "cmpxchg": _compare_exchange,
    "bt": _bit,
    **dict.fromkeys(("fldcw",), _control_word),
    **dict.fromkeys(("fldenv", "frstor"), _environment),
    "ldmxcsr": _mxcsr,
    "fxrstor": _fxrstor,
}
