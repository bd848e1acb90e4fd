"""A CPU one instruction at a time: single steps without a hook, and what a watch has stopped let pass."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.engine import context as ctx
from sandbox.engine import library as lib
from sandbox.engine import stubs, watchcode
from sandbox.engine.callbacks import Callbacks
from sandbox.engine.context import CpuContext
from sandbox.engine.exits import BlocksSpent, BreakpointHit, Exit, ModeChanged, Paused, Stepped, Stopped, Trap, Watched
from sandbox.engine.library import library
from sandbox.x86.instruction import LONGEST_INSTRUCTION, casts_shadow, repeats, transfers
from sandbox.x86.masks import CR0_PG, TF, VM

MOST_SINGLE_STEPS = 32
"""Steps asked for at once beyond which a hook that counts is cheaper than single runs."""
_BEFORE = (BlocksSpent, BreakpointHit, ModeChanged, Stopped, Watched)
"""Ends of a run that come before an instruction."""
_VECTOR_DB = 1
_NOWHERE = 2**64 - 1
_MODES = 0x83
_HFLAGS, _EIP = ctx.HFLAGS32, 2 * ctx.EIP
_NONE32 = 0xFFFFFFFF


class Stepping(Callbacks):
    """The part of a Cpu that runs single instructions."""

    passing: Callable[[bool, bool], object]
    """Told before and behind an instruction at which a watch has stopped, and whether it was done (``watch``)."""
    clock: int
    _deadline: int
    _counted: int
    _cr2_before: int
    _breakpoints: dict[int, list[int]]

    def _go_on(self, blocks: int, steps: int | None = None) -> Exit:
        """``Cpu.run``, whoever stands in its place."""
        raise NotImplementedError

    def _resume(self, state: CpuContext, blocks: int, steps: int | None) -> Exit:
        """The same after a stop that was not the guest's own."""
        raise NotImplementedError

    def count_instructions(self, on: bool) -> None:
        """Install or remove the hook that counts."""
        raise NotImplementedError

    _fetch_hook: int | None = None
    _mode_hook: int | None = None
    _step_hook: int | None

    def _code_hooks_changed(self) -> None:
        """Drop what is translated without the present hooks."""
        raise NotImplementedError

    def watch_fetches(self, on: bool) -> None:
        """Stop before the instructions at the physical addresses of ``fetches``, by whatever mapping."""
        if on == (self._fetch_hook is not None):
            return
        counting = self._step_hook is not None
        self.count_instructions(False)  # an instruction that is not run must not be counted
        if self._fetch_hook is None:
            self.handle.pad.passed = _NOWHERE
            self._fetch_hook = self.handle.add_hook_at(lib.HOOK_CODE, watchcode.stub("fetch"))
        else:
            self.handle.remove_hook(self._fetch_hook)
            self._fetch_hook = None
        self.count_instructions(counting)
        self._code_hooks_changed()

    def watch_mode(self, on: bool) -> None:
        """Come back with ``ModeChanged`` before the first block in another mode than the present one."""
        if on == (self._mode_hook is not None):
            return
        if self._mode_hook is None:
            self._words[stubs.PAD_MODE] = self.mode
            self._mode_hook = self.handle.add_hook_at(lib.HOOK_BLOCK, watchcode.stub("mode"))
        else:
            self.handle.remove_hook(self._mode_hook)
            self._mode_hook = None

    @property
    def mode(self) -> int:
        """CR0.PG, EFLAGS.VM, and of the hidden flags PE and CPL, at their places."""
        longs = self.context.longs
        return self.context.cr0 & CR0_PG | longs[ctx.EFLAGS32] & VM | longs[_HFLAGS] & _MODES

    def _single_steps(self, state: CpuContext, blocks: int, steps: int) -> Exit:
        """A few instructions, one run each: no hook, and no translation is dropped, however much code there is."""
        exit_ = self._step(state, blocks)
        for _ in range(steps - 1):
            if type(exit_) is not Stepped:
                break
            exit_ = self._go_on(self._words[stubs.PAD_BLOCKS], 1)
        return exit_

    def _step(self, state: CpuContext, blocks: int) -> Exit:
        """One instruction: the engine translates no more behind an inhibited interrupt, and the next block is not run.

        An instruction that ends its block anyway is left alone: repeated ones would leave a transfer of control out.
        """
        words, at, began = self._words, state.linear_eip, self.clock
        library().uc_context_restore(self.handle.uc, state.handle)  # the code is read under its CR3
        code = self.handle.read_code(at & _NONE32, LONGEST_INSTRUCTION)
        flags = state.longs[_HFLAGS] & ctx.HF_INHIBIT or state.longs[ctx.EFLAGS32] & TF
        mine = 0 if flags or repeats(code) or casts_shadow(code) else ctx.HF_INHIBIT
        words[stubs.PAD_SHARE], self._cr2_before = 1, state.cr2
        try:
            while True:
                fresh = int(words[stubs.PAD_BEHIND] != at and blocks > 0)
                if fresh:  # the block stub shall take it for one entered before
                    words[stubs.PAD_BEHIND] = at
                    self._deadline, blocks, began = self._deadline + 1, blocks - 1, began + 1
                entered = words[stubs.PAD_BEHIND] == at
                state.longs[_HFLAGS] |= mine
                exit_ = self._go_on(blocks)
                state.longs[_HFLAGS] &= ~mine
                if words[stubs.PAD_FIRST] == -1:
                    self._deadline, began = self._deadline - fresh, began - fresh
                moved = state.linear_eip != at or self.clock != began
                again = mine and entered and state.linear_eip == at and not transfers(code)
                if again and (type(exit_) is BlocksSpent or (moved and type(exit_) is Paused)):
                    return self._hooked_step(state, at, self.clock - began)
                if moved or type(exit_) is not Paused:
                    return self._stepped(state, exit_, moved)
                state.resumes_at, words[stubs.PAD_BEHIND], blocks = -1, at, words[stubs.PAD_BLOCKS]
        finally:
            words[stubs.PAD_SHARE] = stubs.FUEL_OF_A_RUN

    def _stepped(self, state: CpuContext, exit_: Exit, moved: bool) -> Exit:
        """Count the instruction, as the hook would have; a step that ends at a breakpoint has reached it."""
        begun = self._words[stubs.PAD_FIRST] != -1 and (moved or type(exit_) not in _BEFORE)
        self._counted += begun
        if type(exit_) not in (Paused, Stepped):
            return exit_
        if state.linear_eip & _NONE32 in self._breakpoints:
            state.passes = state.linear_eip
            return BreakpointHit(exit_.eip)
        return Stepped(exit_.eip)

    def _stepped_to_a_fault(self, state: CpuContext) -> Exit:
        """The step is done; that its successor cannot be translated is the next run's matter."""
        self._unanswered, state.cr2 = None, self._cr2_before
        if state.linear_eip == self._words[stubs.PAD_END]:
            state.resumes_at = state.linear_eip
        return Stepped(state.longs[_EIP])

    def _hooked_step(self, state: CpuContext, at: int, counted: int) -> Exit:
        """The instruction has changed itself, so that the engine began it once more: that is not to be counted."""
        words = self._words
        self._deadline -= counted
        state.resumes_at, words[stubs.PAD_BEHIND], words[stubs.PAD_SHARE] = -1, at, stubs.FUEL_OF_A_RUN
        self.count_instructions(True)
        try:
            return self._go_on(words[stubs.PAD_BLOCKS] + counted, 1)
        finally:
            self.count_instructions(False)

    def _pass_watched(self, state: CpuContext, blocks: int, steps: int | None) -> Exit:
        """Let the instruction at which a watch stopped do all it does, and go on."""
        at, began, data = state.linear_eip, self.clock, watchcode.pages()[2]
        self.passing(True, False)
        data.hits, data.guest_hits, data.passing = 0, 0, 1
        try:
            exit_ = self._resume(state, blocks, 1)
        finally:
            data.passing = 0
            done = state.linear_eip != at or self.clock != began
            self.passing(False, done)
        if data.guest_hits and done:
            return self._guests_breakpoint(state, data.guest_hits)
        if steps == 1 or type(exit_) is not Stepped:
            return exit_
        return self._go_on(self._words[stubs.PAD_BLOCKS], None if steps is None else steps - 1)

    def _guests_breakpoint(self, state: CpuContext, conditions: int) -> Exit:
        """What DR0 to DR3 watch was touched by the instruction that is over now (SDM 3B, 17.3.1.2)."""
        state.set_debug_register(6, state.debug_register(6) | conditions)
        state.resumes_at = state.passes = -1
        return Trap(state.longs[_EIP], _VECTOR_DB, 0, 0, state.cpl, False)

    def _touched(self, state: CpuContext) -> Exit:
        """Before an access that the guest's DR0 to DR3 watch: on to the end of its instruction."""
        stepping = self._words[stubs.PAD_SHARE] == 1
        exit_ = self._pass_watched(state, self._words[stubs.PAD_BLOCKS], 1)
        self._counted -= stepping
        return Paused(exit_.eip) if type(exit_) is Stepped else exit_

    def _inside_block(self, at: int) -> bool:
        """Whether a linear address lies in the block entered last: then it was running, not being translated."""
        first, end = self._words[stubs.PAD_FIRST], self._words[stubs.PAD_END]
        return first != -1 and first <= at < end
