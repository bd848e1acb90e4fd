"""Why a run of the engine came back: from what its host code noted to an exit (``sandbox.engine.exits``)."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.engine import context as ctx
from sandbox.engine import library as lib
from sandbox.engine import predictor, stubs, system
from sandbox.engine.context import CpuContext
from sandbox.engine.exits import (
    BlocksSpent,
    BreakpointHit,
    BusError,
    Exit,
    Halt,
    ModeChanged,
    Paused,
    Stepped,
    Stopped,
    StoppedAhead,
    Trap,
    Watched,
)
from sandbox.engine.library import EngineError, check
from sandbox.engine.rmw import writes_what_it_reads
from sandbox.engine.stepping import Stepping
from sandbox.x86.instruction import LEGACY_PREFIXES, LOCK, LONGEST_INSTRUCTION
from sandbox.x86.masks import PF_INSTR, PF_WRITE, STATUS_FLAGS, TF
from sandbox.x86.paging import PAGE_SIZE

VECTOR_DB, VECTOR_UD, VECTOR_TS, VECTOR_PF = 1, 6, 10, 14
_ERROR, _HFLAGS = ctx.ERROR_CODE32, ctx.HFLAGS32
_EIP, _CR2 = 2 * ctx.EIP, 2 * ctx.CR2
_NONE32 = 0xFFFFFFFF
_FETCH_ERRORS = (lib.ERR_FETCH_UNMAPPED, lib.ERR_FETCH_PROT)
_TRANSLATING = (stubs.REASON_FETCH, stubs.REASON_ABORTED)
_TRAPPED = (stubs.REASON_TRAP, stubs.REASON_FETCH)
_AHEAD, _AHEAD_BLOCKS = stubs.PAD_AHEAD, stubs.PAD_AHEAD_BLOCKS
_REASON, _FAILED, _NO_REASON = stubs.PAD_REASON32, stubs.PAD_ERROR, stubs.REASON_NONE
_WRITE_OR_FETCH = PF_WRITE | PF_INSTR
_BIT_TESTS = (0xA3, 0xAB, 0xB3, 0xBB, 0xBA)


class EngineAbortError(EngineError):
    """The engine gave up on an instruction; the CPU's state is the one before it.

    ``eip`` is in CS, ``code`` holds up to 15 bytes from there.
    """

    def __init__(self, eip: int, code: bytes) -> None:
        super().__init__(
            f"the engine gave up on the instruction at {eip:#010x}: {code.hex(' ')}",
            "Its translator or one of its helpers called abort(); the process was kept alive.",
        )
        self.eip = eip
        self.code = code


class Answers(Stepping):
    """The part of a Cpu that tells why a run of the engine came back."""

    context: CpuContext
    owed: int
    _pad: int
    _enter: Callable[[int], int]
    _instrumented: bool
    _stopping: bool
    _longs: memoryview[int]
    _forget_at: int
    _ahead: CpuContext
    _ahead_budget: int
    _ahead_charged: int
    _holding = False
    """A repeated string instruction is let go on by ``_overwriting``."""

    def drop_all_code(self) -> None:
        """Drop every translated block."""
        raise NotImplementedError

    def _other_exit(self, state: CpuContext) -> Exit:
        """Every exit but that of an exception at its instruction, without code hooks."""
        if self._words[_AHEAD]:
            return self._stopped_ahead(state)
        reason, error = self._longs[_REASON], self._words[_FAILED]
        quiet = self._callback_error is None and self._denied is None and not self._instrumented
        if reason == _NO_REASON and not error and quiet:  # the end of a routine: most exits that come here
            return Halt(state.longs[_EIP])
        if reason in _TRANSLATING or error in _FETCH_ERRORS:
            stepping = self._words[stubs.PAD_SHARE] == 1 and self._words[stubs.PAD_FIRST] != -1
            if stepping and not self._inside_block(state.linear_eip):
                return self._stepped_to_a_fault(state)
            self._find_instruction(state)
        if self._instrumented:
            self._mend_flags(state)
        if self._callback_error is not None:
            failure, self._callback_error = self._callback_error, None
            raise failure
        if self._denied is not None:
            denied, self._denied = self._denied, None
            return denied
        at = state.longs[_EIP]
        reason, error = self._longs[stubs.PAD_REASON32], self._words[stubs.PAD_ERROR]
        if error:
            return self._failed(state, at, error)
        if reason in _TRAPPED:
            return self._trapped(state, at, reason)
        if reason == stubs.REASON_BLOCKS:
            return self._blocks_spent(at)
        if reason == stubs.REASON_ABORTED:
            return self._aborted(state, at)
        if reason == stubs.REASON_NONE:
            return Halt(at)
        return self._interrupted(state, at, reason)

    def _stopped_ahead(self, state: CpuContext) -> Exit:
        """The clock stands still: the blocks of what was to run before are in it; ``blocks_left`` are of its budget."""
        clock, ahead, words = self.clock, self._ahead, self._words
        words[_AHEAD] = 0
        words[stubs.PAD_BLOCKS] = left = words[_AHEAD_BLOCKS]
        self.owed = self._ahead_charged - (self._ahead_budget - left)
        self.context = ahead
        try:
            return StoppedAhead(state.longs[_EIP], self._other_exit(ahead))
        finally:
            self.clock = clock

    def _trapped(self, state: CpuContext, at: int, reason: int) -> Exit:
        """An exception or a software interrupt, wherever it was raised."""
        software, vector = state.software, self._longs[stubs.PAD_VECTOR32]
        fault = vector == VECTOR_PF and not software
        code = 0 if software else state.error_code
        if fault and reason == stubs.REASON_TRAP and not code & _WRITE_OR_FETCH:
            code |= self._rmw_bit(state)
        return Trap(at, vector, code, state.longs[_CR2] if fault else 0, state.cpl, software)

    def _blocks_spent(self, at: int) -> Exit:
        """The count-down has ended, by itself or because ``stop`` ended it."""
        words = self._words
        words[stubs.PAD_BLOCKS] = 0
        if system.held[0]:
            self._through()
        if self._deadline >= self._forget_at:
            self._forget_at = self._deadline + predictor.EVERY
            predictor.forget()()
        return Stopped(at) if words[stubs.PAD_STOPPING] else BlocksSpent(at)

    def _interrupted(self, state: CpuContext, at: int, reason: int) -> Exit:
        """A stop that is not the guest's own: the next run goes on inside a block that has been counted."""
        words = self._words
        state.resumes_at = state.linear_eip
        self._stopping = bool(words[stubs.PAD_STOPPING])
        if reason == stubs.REASON_STEPS:
            words[stubs.PAD_STEPS] = 0
            return Stepped(at)
        if reason == stubs.REASON_BREAKPOINT:
            state.passes = state.linear_eip
            return BreakpointHit(at)
        if reason in (stubs.REASON_WATCHED, stubs.REASON_LOADED):
            if reason == stubs.REASON_WATCHED:  # who came to its access has passed its breakpoint
                state.watched = state.passes = words[stubs.PAD_PASSED] = state.linear_eip
            words[stubs.PAD_STEPS] += self._step_hook is not None and reason == stubs.REASON_WATCHED
            return Watched(at)
        if reason == stubs.REASON_MODE:
            return ModeChanged(at)
        if reason == stubs.REASON_GUESTS:
            words[stubs.PAD_STEPS] += self._step_hook is not None
            return self._touched(state)
        return self._overwriting(at) if system.held[0] and not self._holding else Paused(at)

    def _overwriting(self, at: int) -> Exit:
        """A repeated string instruction has stored into itself: it goes on as it was fetched (``native/system.S``)."""
        words = self._words
        exit_: Exit = Paused(at)
        self._holding = True
        try:
            free = not self._instrumented and words[stubs.PAD_SHARE] != 1
            while free and type(exit_) is Paused and words[stubs.PAD_END] == system.held[0]:
                exit_ = self._go_on(words[stubs.PAD_BLOCKS])
            return exit_
        finally:
            self._holding = False
            self._through()

    def _through(self) -> None:
        system.held[0] = 0
        self.drop_all_code()

    def _find_instruction(self, state: CpuContext) -> None:
        """The engine failed while it translated a block: run up to the instruction that it failed on.

        The state is the block's start, and nothing of the block has run.  An inhibited interrupt makes the engine
        translate a single instruction; so one at a time until one cannot be, or until something else comes first.
        """
        words, longs, mine = self._words, state.longs, False
        while self._longs[stubs.PAD_REASON32] in _TRANSLATING or words[stubs.PAD_ERROR] in _FETCH_ERRORS:
            at, hidden = state.linear_eip, longs[_HFLAGS]
            if self._longs[stubs.PAD_REASON32] == stubs.REASON_FETCH and (longs[_CR2] ^ at & _NONE32) < PAGE_SIZE:
                break
            if self._inside_block(at) or hidden & ctx.HF_INHIBIT or longs[ctx.EFLAGS32] & TF:
                break
            longs[_HFLAGS] = hidden | ctx.HF_INHIBIT
            mine = True
            words[stubs.PAD_BEHIND] = words[stubs.PAD_END]
            self._enter(self._pad)
            mine = state.linear_eip == at
        if mine:
            longs[_HFLAGS] &= ~ctx.HF_INHIBIT

    def _mend_flags(self, state: CpuContext) -> None:
        """Set right the flags of an instruction that a code hook preceded and that then faulted.

        Behind such a hook the translator has gathered the arithmetic flags, but what it notes for the way back from a
        fault is the form that they had before: the engine's answer is made of both.
        """
        at = state.linear_eip
        hooked = self._step_hook is not None or self._fetch_hook is not None or at & _NONE32 in self._breakpoints
        faulted = self._longs[stubs.PAD_REASON32] == stubs.REASON_TRAP or self._words[stubs.PAD_ERROR] != 0
        if hooked and faulted and self._inside_block(at) and not state.software:
            if self._longs[stubs.PAD_VECTOR32] == VECTOR_DB:
                return
            state.eflags = state.longs[ctx.EFLAGS32] & ~STATUS_FLAGS | state.quads[ctx.CC_SRC] & STATUS_FLAGS

    def _failed(self, state: CpuContext, at: int, error: int) -> Exit:
        if error == lib.ERR_INSN_INVALID:
            if state.software:  # INT 6, which the engine takes for one
                state.eip = state.longs[2 * ctx.NEXT_EIP]
                return Trap(state.eip, VECTOR_UD, 0, 0, state.cpl, True)
            return Trap(at, VECTOR_UD, 0, 0, state.cpl, False)
        unanswered, self._unanswered = self._unanswered, None
        if unanswered is not None:
            return BusError(at, *unanswered)
        check(error, f"to run at {at:#010x}")
        raise AssertionError

    def _aborted(self, state: CpuContext, at: int) -> Exit:
        """The engine called abort().  Two known causes are faults on hardware (SDM 2A, LOCK; 3A, 7.2.1)."""
        code = self.handle.read_code(state.linear_eip & _NONE32, LONGEST_INSTRUCTION)
        opcode = code.lstrip(LEGACY_PREFIXES)
        locked = LOCK in code[: len(code) - len(opcode)]
        if locked and len(opcode) > 2 and opcode[0] == 0x0F and opcode[1] in _BIT_TESTS and opcode[2] >= 0xC0:
            return Trap(at, VECTOR_UD, 0, 0, state.cpl, False)
        task = state.segment("tr")
        if self._inside_block(state.linear_eip) and not (task.flags & 0x8000 and task.flags >> 8 & 7 == 1):
            return Trap(at, VECTOR_TS, task.selector & 0xFFFC, 0, state.cpl, False)
        raise EngineAbortError(at, code)

    def _rmw_bit(self, state: CpuContext) -> int:
        """The W bit that hardware would set for a read fault (``sandbox.engine.rmw``); the state gets it too."""
        code = self.handle.read_code(state.linear_eip & _NONE32, LONGEST_INSTRUCTION)
        bit = PF_WRITE if writes_what_it_reads(code) else 0
        state.longs[_ERROR] |= bit
        return bit
