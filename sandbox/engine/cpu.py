"""One CPU: one engine handle over shared physical memory, run until something happens."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Protocol

from sandbox.engine import context as ctx
from sandbox.engine import library as lib
from sandbox.engine import predictor, selftest, stubs
from sandbox.engine.answers import Answers, EngineAbortError
from sandbox.engine.context import CpuContext
from sandbox.engine.exits import (
    Exit,
    Stopped,
    Trap,
)
from sandbox.engine.handle import Handle
from sandbox.engine.library import NO_ADDRESS, EngineError, check, library
from sandbox.engine.stepping import MOST_SINGLE_STEPS
from sandbox.x86.masks import (
    CR0_PROTECTED,
    CR4_SSE,
    EFLAGS_FIXED,
    PF_INSTR,
    PF_WRITE,
)

VECTOR_PF = 14
_ERROR, _SOFTWARE, _HFLAGS = ctx.ERROR_CODE32, ctx.IS_SOFTWARE32, ctx.HFLAGS32
_EIP, _CR2 = 2 * ctx.EIP, 2 * ctx.CR2
_WRAP = 1 << 32
"""What the engine's own linear addresses are too large by where base and EIP add up to 4 GB or more."""
_AHEAD, _AHEAD_BLOCKS, _BLOCKS = stubs.PAD_AHEAD, stubs.PAD_AHEAD_BLOCKS, stubs.PAD_BLOCKS
_WRITE_OR_FETCH = PF_WRITE | PF_INSTR


class Runner(Protocol):
    """Who stands in the place of ``Cpu.run``."""

    def __call__(self, cpu: Cpu, blocks: int, steps: int | None = None) -> Exit: ...


class Alert(Protocol):
    """Something to look at, or not."""

    alert: bool


class Cpu(Answers):
    """A 32-bit x86 CPU.

    Between runs ``context`` is the CPU: change it, or put another in its place, and the next ``run`` goes on from
    there.  The TLB is the engine's and survives such changes, as on hardware: only guest instructions and
    ``flush_tlb`` empty it.
    """

    def __init__(self, index: int = 0) -> None:
        super().__init__(time_stamp=lambda cpu: cpu.clock)
        self.index = index
        self.handle = handle = Handle(lib.MemoryEvent(self._on_unanswered))
        self._words, self._longs = handle.words, handle.longs
        self._enter = self._entered = handle.enter
        """What ``run`` calls, and what it would if nobody looked at every entry."""
        self._pad = handle.pad_address
        self._deadline = self._step_end = self._counted = self._cr2_before = 0
        self._forget_at = predictor.FIRST
        self._step_hook: int | None = None
        self.passing = max
        self._breakpoints: dict[int, list[int]] = {}
        self._instrumented = False
        self.runner: Callable[[int, int | None], Exit] | None = None
        self._passes_ahead = False
        self.judge: Callable[[Exit], Exit] | None = None
        """Whoever runs this CPU in the place of ``run`` is asked what becomes of the cause of a StoppedAhead."""
        self._stopping = False
        self._ahead: CpuContext
        self._ahead_budget = self._ahead_charged = 0
        self.owed = 0
        """At a StoppedAhead: blocks that are on the clock and have not run."""
        self.plain = handle.native
        """Nobody who asks for each run stands between ``run`` and the engine, counts its instructions or its entries:
        ``go_ahead`` may be called."""
        self.context = CpuContext(handle.uc)
        check(library().uc_context_save(handle.uc, self.context.handle), "to save a context")
        handle.initialize(self.context.size)
        self._connect_time_stamp()
        self.reset()
        selftest.verify_once(self)

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> int:
        """Transfers of control so far: blocks entered otherwise than by falling through, REP iterations included.

        Coming back from a trap counts as one; a jump to the next instruction does not count.  The same whether the
        program ran free, stepped, in slices or with breakpoints, and right during a run too.
        """
        return self._deadline - self._words[_BLOCKS]

    @clock.setter
    def clock(self, value: int) -> None:
        self._deadline = value + self._words[stubs.PAD_BLOCKS]

    @property
    def blocks_left(self) -> int:
        """What the last run did not use of its blocks."""
        return self._words[stubs.PAD_BLOCKS]

    @property
    def instructions(self) -> int:
        """Instructions executed in runs with ``steps``; one that faults counts again on its retry."""
        if self._step_hook is None:
            return self._counted
        return self._step_end - self._words[stubs.PAD_STEPS]

    def new_context(self) -> CpuContext:
        """A copy of ``context``."""
        made = CpuContext(self.handle.uc)
        made.copy_from(self.context)
        return made

    def reset(self) -> None:
        """The state that a 32-bit kernel gives a program: flat, paging off, x87 and SSE ready (SDM 3A, 9.1)."""
        state = self.context
        for number in range(8):
            state.quads[number] = 0
        state.eip = 0
        state.eflags = EFLAGS_FIXED
        state.cr0, state.cr4 = CR0_PROTECTED, CR4_SSE
        state.cr2 = state.cr3 = state.efer = 0
        for name in ("es", "ss", "ds", "fs", "gs"):
            state.set_segment(name, 0, 0, 0xFFFFFFFF, 0xCF9300)
        state.set_segment("cs", 0, 0, 0xFFFFFFFF, 0xCF9B00)
        state.reset_fpu()
        state.reset_debug()
        check(library().uc_context_restore(self.handle.uc, state.handle), "the reset state")
        self.flush_tlb()

    # -- running -------------------------------------------------------------------------------------------------

    def run(self, blocks: int, steps: int | None = None) -> Exit:
        """Run ``context`` until ``clock`` has advanced by ``blocks``, and for at most ``steps`` instructions.

        ``Paused`` may come before either (``sandbox.engine.ticks``): run on, with what is left of both.

        Returns why it came back; a pending cause is never lost.  What a device callback raised comes out here.
        Raises EngineError when the engine fails in a way that no exit describes.
        """
        state = self.context
        words = self._words
        if state.resumes_at != -1 or state.passes != -1:
            return self._resume(state, blocks, steps)
        if steps is not None or self._step_hook is not None:
            if steps is not None and 0 < steps <= MOST_SINGLE_STEPS and self._step_hook is None:
                return self._single_steps(state, blocks, steps)
            self._prepare_steps(steps)
        self._deadline += blocks - words[0]
        words[0] = blocks
        words[3] = state.handle
        if self._enter(self._pad) or self._instrumented:
            return self._other_exit(state)
        longs = state.longs
        vector = self._longs[8]
        if longs[_SOFTWARE]:
            return Trap(longs[_EIP], vector, 0, 0, longs[_HFLAGS] & 3, True)
        error = longs[_ERROR]
        if vector != VECTOR_PF:
            return Trap(longs[_EIP], vector, error, 0, longs[_HFLAGS] & 3, False)
        if not error & _WRITE_OR_FETCH:
            error |= self._rmw_bit(state)
        return Trap(longs[_EIP], vector, error, longs[_CR2], longs[_HFLAGS] & 3, False)

    def run_by(self, runner: Runner | None) -> None:
        """From now on ``runner(cpu, blocks, steps)`` is called in the place of ``run``, and may call ``Cpu.run`` as it
        likes; with None as before.  Who runs this CPU does not notice, and without a runner nothing is asked."""
        self.run_as(None if runner is None else partial(runner, self))

    def run_as(self, run: Callable[[int, int | None], Exit] | None, passes_ahead: bool = False) -> None:
        """The same with a function that knows the CPU.  ``passes_ahead``: it runs what comes, hands a StoppedAhead on,
        and leaves the rest to ``judge``."""
        if run is not None:
            self.run = run  # type: ignore[method-assign, assignment]
        elif self.run != MethodType(Cpu.run, self):  # without its __dict__: CPython is slower with one that was seen
            del self.run
        self.runner, self._passes_ahead = run, passes_ahead
        self._look_who_is_there()

    def _go_on(self, blocks: int, steps: int | None = None) -> Exit:
        return Cpu.run(self, blocks, steps)

    def _look_who_is_there(self) -> None:
        entered = self._enter is self._entered and self.handle.native
        self.plain = entered and not self._instrumented and (self.runner is None or self._passes_ahead)

    def go_ahead(self, context: CpuContext, budget: int, blocks: int) -> None:
        """Let the next ``run`` run another context first, to its HLT, in the same call of host code.

        ``clock`` has its blocks from here on, ``blocks`` of them, and does not count them when they run; it may run
        ``budget``.  Where something else stops it, ``run`` returns StoppedAhead.  Only while the CPU is ``plain``.
        """
        words, self._ahead = self._words, context
        self._ahead_budget, self._ahead_charged = budget, blocks
        words[_AHEAD] = context.handle
        words[_AHEAD_BLOCKS] = budget
        self._deadline += blocks

    def take_back(self) -> bool:
        """Nothing is to run before any more; False where it has."""
        waits = self._words[_AHEAD] != 0
        self._words[_AHEAD] = 0
        return waits

    def stop(self) -> None:
        """From a device callback: come back with ``Stopped`` where ``clock`` would advance next.

        That place is the same however the run is stepped or cut; an exit before it is reported instead.
        """
        words = self._words
        self._deadline -= words[stubs.PAD_BLOCKS]
        words[stubs.PAD_BLOCKS] = 0
        words[stubs.PAD_STOPPING] = 1

    def _resume(self, state: CpuContext, blocks: int, steps: int | None) -> Exit:
        """Go on after a stop that was not the guest's own: what was counted or reported before is not again."""
        watched, state.watched = state.watched, -1
        if watched == state.linear_eip:
            return self._pass_watched(state, blocks, steps)
        words, passes = self._words, state.passes
        words[stubs.PAD_BEHIND] = state.resumes_at
        state.resumes_at = state.passes = -1
        stopping, self._stopping = self._stopping, False
        if passes == state.linear_eip:
            words[stubs.PAD_SKIP] = passes
        try:
            exit_ = Cpu.run(self, 0 if stopping else blocks, steps)
            if state.linear_eip == passes and (isinstance(exit_, Trap) or words[stubs.PAD_SKIP] == passes):
                state.passes = passes
        finally:
            words[stubs.PAD_SKIP] = -1
        if stopping and self._longs[stubs.PAD_REASON32] == stubs.REASON_BLOCKS:
            return Stopped(exit_.eip)
        self._stopping |= stopping and state.resumes_at != -1
        return exit_

    # -- stepping and breakpoints --------------------------------------------------------------------------------

    def _prepare_steps(self, steps: int | None) -> None:
        if steps is None:
            self.count_instructions(False)
            return
        self.count_instructions(True)
        words = self._words
        self._step_end += steps - words[stubs.PAD_STEPS]
        words[stubs.PAD_STEPS] = steps

    def count_instructions(self, on: bool) -> None:
        """Install or remove the instruction counter that stepping needs; translations are dropped either way."""
        if on and self._step_hook is None:
            self._step_end = self._counted + self._words[stubs.PAD_STEPS]
            self._step_hook = self.handle.add_native_hook(lib.HOOK_CODE, "steps")
            self._code_hooks_changed()
        elif not on and self._step_hook is not None:
            self._counted = self.instructions
            self.handle.remove_hook(self._step_hook)
            self._step_hook = None
            self._code_hooks_changed()

    def set_breakpoint(self, address: int) -> None:
        """Stop before the instruction at a linear address."""
        if address in self._breakpoints:
            return
        # the engine asks hooks in the order of their making: an instruction that is not run must not be counted
        counting = self._step_hook is not None
        self.count_instructions(False)
        self._words[stubs.PAD_SKIP] = -1
        add = self.handle.add_native_hook
        self._breakpoints[address] = [add(lib.HOOK_CODE, "breakpoint", at, at) for at in (address, address + _WRAP)]
        self.count_instructions(counting)
        self._code_hooks_changed()

    def clear_breakpoint(self, address: int) -> None:
        hooks = self._breakpoints.pop(address, None)
        if hooks is not None:
            for hook in hooks:
                self.handle.remove_hook(hook)
            self._code_hooks_changed()

    def _code_hooks_changed(self) -> None:
        self._instrumented = self._step_hook is not None or self._fetch_hook is not None or bool(self._breakpoints)
        self._look_who_is_there()
        self.drop_all_code()

    # -- measuring -----------------------------------------------------------------------------------------------

    def time_entries(self, note: Callable[[int, float], object]) -> None:
        """From now on tell ``note(cpl, seconds)`` of each entry of the engine: the CPL before it, its host time.

        It stays for the CPU's life, and makes each entry half a microsecond longer; without it nothing is asked.
        """
        enter, now = self._enter, time.perf_counter

        def timed(pad: int) -> int:
            cpl, began = self.context.cpl, now()
            result = enter(pad)
            note(cpl, now() - began)
            return result

        self._enter = timed
        self._look_who_is_there()

    def before_entries(self, look: Callable[[], object], when: Alert | None = None) -> None:
        """From now on, for the CPU's life, call ``look`` before each entry of the engine; it runs no guest code.

        With ``when``, only before those at which its ``alert`` is set: then what goes ahead is no entry of its own.
        """
        enter = self._enter

        def always(pad: int) -> int:
            look()
            return enter(pad)

        if when is None:
            self._enter = always
            self._look_who_is_there()
            return

        def at_alert(pad: int) -> int:
            if when.alert:
                look()
            return enter(pad)

        self._enter, self._entered = at_alert, at_alert

    # -- translations --------------------------------------------------------------------------------------------

    def flush_tlb(self) -> None:
        """Drop every cached translation of addresses, global ones too."""
        self.handle.control(lib.CTL_TLB_FLUSH)

    def drop_all_code(self) -> None:
        """Drop every translated block: 36 µs, and everything is translated again."""
        self.handle.control(lib.CTL_TB_FLUSH)

    def drop_code(self, first: int, end: int) -> None:
        """Drop the translated blocks of a linear range that is mapped under the CPU's present CR3 (3 µs)."""
        self.handle.control(lib.CTL_TB_REMOVE_CACHE, ctypes.c_uint64(first), ctypes.c_uint64(end))

    def close(self) -> None:
        """Release the engine's handle; the contexts made from it stay readable."""
        self.handle.close()


__all__ = ["NO_ADDRESS", "Cpu", "EngineAbortError", "EngineError"]
