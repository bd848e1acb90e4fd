"""Where the return address of a running function lies: by call frame information, or by reading on to its RET.

A path from the next instruction to a RET says what becomes of ESP on the way.  Values are a register's present one
and an offset, or the word of memory at such a value and an offset.  A call leaves EBX, ESI, EDI, EBP and ESP as they
were (the i386 psABI, 2.2.2); where code does otherwise, no CALL stands before what is found, and it does not count.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from sandbox.debug.reach import RETURNS, jump_target, word_of
from sandbox.debug.target import WRAP, Target
from sandbox.debug.unwind import is_return
from sandbox.image.disassemble import Instruction, engine
from sandbox.records import dataclass, field, replace
from sandbox.x86.descriptors import FLAG_BIG

MOST = 2048
"""Instructions that are read for a RET."""
Value = tuple[Any, int]
"""(name of a register, or a Value in whose place in memory the word lies; offset)."""
_WHOLE = {
    part: whole
    for whole, parts in {
        "eax": "ax al ah", "ecx": "cx cl ch", "edx": "dx dl dh", "ebx": "bx bl bh", "esp": "sp", "ebp": "bp",
        "esi": "si", "edi": "di",
    }.items()
    for part in (whole, *parts.split())
}  # fmt: skip
_REGISTERS = tuple(dict.fromkeys(_WHOLE.values()))
_ENDS = ("iret", "iretd", "hlt", "ljmp", "lcall", "enter", "retf")


@dataclass(slots=True)
class _State:
    """What is known of the registers and of the words that the path has stored."""

    registers: dict[str, Value | None] = field(default_factory=lambda: {name: (name, 0) for name in _REGISTERS})
    stored: dict[Value, Value | None] = field(default_factory=dict)

    def copy(self) -> _State:
        return replace(self, registers=dict(self.registers), stored=dict(self.stored))

    def load(self, at: Value | None) -> Value | None:
        return None if at is None else self.stored.get(at, (at, 0))

    def push(self, value: Value | None, size: int = 4) -> None:
        self.registers["esp"] = esp = _moved(self.registers["esp"], -size)
        if esp is not None:
            self.stored[esp] = value

    def pop(self) -> Value | None:
        esp = self.registers["esp"]
        self.registers["esp"] = _moved(esp, 4)
        return self.load(esp)


def _moved(value: Value | None, by: int) -> Value | None:
    return None if value is None else (value[0], value[1] + by)


def return_slot(target: Target) -> int | None:
    """The linear address at which the return address of this function lies, None where nobody can tell."""
    return Returns(target).slot()


@dataclass(slots=True)
class Returns:
    """The same for who asks at many places of one function: what was read is kept."""

    target: Target
    _known: dict[int, Value | None] = field(default_factory=dict)

    def slot(self) -> int | None:
        target = self.target
        context = target.context
        if not context.segment("cs").flags & FLAG_BIG or context.segment("ss").base:
            return None
        registers = {name: value & WRAP for name, value in context.general().items()}
        found = self._by_frame_information(registers)
        return self._by_reading(registers) if found is None else found

    def _by_frame_information(self, registers: dict[str, int]) -> int | None:
        cfi, found = self.target.frame_info(), dict(registers, eip=self.target.context.linear_eip & WRAP)
        if cfi is None or cfi.unwind(self.target, found, True) is not True:
            return None
        slot = found["esp"] - 4 & WRAP
        return slot if _word(self.target, slot) == found["eip"] else None

    def _by_reading(self, registers: dict[str, int]) -> int | None:
        at = self.target.context.linear_eip & WRAP
        if at not in self._known:
            self._known[at] = _esp_at_return(self.target, at)
        first = ("esp", 0) if _begins(self.target, at) else None
        for value in (first, self._known[at]):
            slot = _evaluated(self.target, value, registers)
            back = None if slot is None else _word(self.target, slot)
            if back is not None and is_return(self.target, back):
                return slot
        return None


def _word(target: Target, at: int) -> int | None:
    data = target.read(at & WRAP, 4)
    return int.from_bytes(data, "little") if len(data) == 4 else None


def _evaluated(target: Target, value: Value | None, registers: dict[str, int]) -> int | None:
    if value is None:
        return None
    base, offset = value
    if isinstance(base, str):
        return registers[base] + offset & WRAP
    at = _evaluated(target, base, registers)
    word = None if at is None else _word(target, at)
    return None if word is None else word + offset & WRAP


def _esp_at_return(target: Target, first: int) -> Value | None:
    """ESP before the RET that is the fewest jumps away, by the present registers."""
    waiting, seen = deque([(first, _State())]), set[int]()
    while waiting and len(seen) < MOST:
        at, state = waiting.popleft()
        while at not in seen:
            seen.add(at)
            code = target.code(at, 1)
            word = word_of(code[0].text) if code else ""
            if not code or word in _ENDS or state.registers["esp"] is None:
                break
            if word in RETURNS:
                return state.registers["esp"]
            leads, after = jump_target(code[0]), at + code[0].size & WRAP
            if word == "jmp":
                if leads is None:
                    break
                at = leads
                continue
            if leads is not None and (word[:1] == "j" or word.startswith("loop")):
                waiting.append((leads, state.copy()))
            elif word == "call" and _begins(target, after):  # it does not return: another function lies behind
                break
            else:
                _run(state, code[0])
            at = after
    return None


def _begins(target: Target, at: int) -> bool:
    """A symbol has this very address."""
    name = target.name_of(at).partition(" ")[0]
    return bool(name) and "+" not in name


def _run(state: _State, instruction: Instruction) -> None:
    """What an instruction makes of the state."""
    each = next(engine(True).disasm(instruction.raw, instruction.address, 1), None)
    if each is None:
        return
    operands, word = each.operands, word_of(instruction.text)
    known = _RULES.get(word)
    if word == "call":
        for name in ("eax", "ecx", "edx"):
            state.registers[name] = None
        if jump_target(instruction) == instruction.address + instruction.size:  # for its own address: no function
            state.push(None)
    elif known is None or not known(state, each, operands):
        for number in each.regs_access()[1]:
            whole = _WHOLE.get(each.reg_name(number))
            if whole is not None:
                state.registers[whole] = None
        if operands and operands[0].type == _MEMORY:
            state.stored.pop(_place(state, each, operands[0]) or ("", 0), None)


_REGISTER, _IMMEDIATE, _MEMORY = 1, 2, 3
"""Types of operands (capstone's ``x86_op_type``)."""


def _place(state: _State, each: Any, operand: Any) -> Value | None:
    """Where a memory operand lies: a register and an offset, or nobody knows."""
    memory = operand.mem
    if memory.index or memory.segment or not memory.base:
        return None
    return _moved(state.registers.get(each.reg_name(memory.base)), memory.disp)


def _read(state: _State, each: Any, operand: Any) -> Value | None:
    if operand.size != 4:
        return None
    if operand.type == _REGISTER:
        return state.registers.get(each.reg_name(operand.reg))
    return state.load(_place(state, each, operand)) if operand.type == _MEMORY else None


def _push(state: _State, each: Any, operands: Any) -> bool:
    narrow = operands[0].size == 2 and not _is_segment(each, operands[0])
    state.push(_read(state, each, operands[0]), 2 if narrow else 4)
    return True


def _is_segment(each: Any, operand: Any) -> bool:
    return operand.type == _REGISTER and each.reg_name(operand.reg) not in _WHOLE


def _pop(state: _State, each: Any, operands: Any) -> bool:
    name = each.reg_name(operands[0].reg) if operands[0].type == _REGISTER else ""
    if name == "esp" or (operands[0].size != 4 and not _is_segment(each, operands[0])):
        return False
    value = state.pop()
    if name in _REGISTERS:
        state.registers[name] = value
    return True


def _move(state: _State, each: Any, operands: Any) -> bool:
    value, to = _read(state, each, operands[1]), operands[0]
    if to.size != 4:
        return False
    if to.type == _MEMORY:
        place = _place(state, each, to)
        if place is not None:
            state.stored[place] = value
        return True
    name = each.reg_name(to.reg)
    if name in _REGISTERS:
        state.registers[name] = value
    return name in _REGISTERS


def _lea(state: _State, each: Any, operands: Any) -> bool:
    name = each.reg_name(operands[0].reg)
    if name not in _REGISTERS:
        return False
    state.registers[name] = _place(state, each, operands[1])
    return True


def _add(state: _State, each: Any, operands: Any) -> bool:
    if operands[0].type != _REGISTER or operands[1].type != _IMMEDIATE or operands[0].size != 4:
        return False
    name, by = each.reg_name(operands[0].reg), operands[1].imm
    by = (by + (1 << 31) & WRAP) - (1 << 31)
    state.registers[name] = _moved(state.registers[name], by if word_of(each.mnemonic) == "add" else -by)
    return True


def _leave(state: _State, each: Any, operands: Any) -> bool:
    state.registers["esp"] = state.registers["ebp"]
    state.registers["ebp"] = state.pop()
    return True


def _moves_stack(by: int) -> Any:
    def run(state: _State, each: Any, operands: Any) -> bool:
        state.registers["esp"] = _moved(state.registers["esp"], by)
        if by > 4:  # POPAD
            for name in _REGISTERS:
                if name != "esp":
                    state.registers[name] = None
        return True

    return run


_RULES: dict[str, Any] = {
    "push": _push, "pop": _pop, "mov": _move, "lea": _lea, "add": _add, "sub": _add, "leave": _leave,
    "pushfd": _moves_stack(-4), "popfd": _moves_stack(4), "pushal": _moves_stack(-32), "popal": _moves_stack(32),
    "pushad": _moves_stack(-32), "popad": _moves_stack(32),
}  # fmt: skip
