"""One CPU: one engine handle over shared physical memory, run until something happens."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from sandbox.engine import context as ctx
from sandbox.engine import library as lib
from sandbox.engine import stubs
from sandbox.engine.context import CpuContext
from sandbox.engine.exits import (
    BreakpointHit,
    BudgetSpent,
    BusError,
    Exit,
    Halt,
    PortDenied,
    Stepped,
    Stopped,
    Trap,
)
from sandbox.engine.library import EngineError, check, control, library

NO_ADDRESS = 2**64 - 1
TCG_BUFFER_BYTES = 16 << 20
VECTOR_UD, VECTOR_PF = 6, 14
_OLD_EXCEPTION, _ERROR, _SOFTWARE = ctx.OLD_EXCEPTION32, ctx.ERROR_CODE32, ctx.IS_SOFTWARE32
_NONE32 = 0xFFFFFFFF
_EVERY_ADDRESS = (1, 0)
PHYSICAL_END = 1 << 52

PortReader = Callable[[int, int], int]
PortWriter = Callable[[int, int, int], None]
PortGate = Callable[["Cpu", int, int], bool]


def _inside_iopl(cpu: Cpu, port: int, size: int) -> bool:
    return cpu.context.cpl <= cpu.context.eflags >> 12 & 3


class Cpu:
    """A 32-bit x86 CPU.

    Between runs ``context`` is the CPU: change it, or put another in its place, and the next ``run`` goes on from
    there.  The TLB is the engine's and survives such changes, as on hardware: only guest instructions and
    ``flush_tlb`` empty it.  ``clock`` counts translated blocks and is the same whether the run was free, stepped
    or cut into slices.
    """

    def __init__(self, index: int = 0) -> None:
        engine = library()
        stubs.guard_division()
        self.index = index
        self.clock = 0
        self.instructions = 0
        self.port_gate: PortGate = _inside_iopl
        self._uc = ctypes.c_void_p()
        check(engine.uc_open(lib.ARCH_X86, lib.MODE_32, ctypes.byref(self._uc)), "a new CPU")
        self._keep: list[object] = []
        self._control(lib.CTL_TCG_BUFFER_SIZE, ctypes.c_uint32(TCG_BUFFER_BYTES))
        self._control(lib.CTL_USE_EXITS, ctypes.c_int(1))
        self._pad = stubs.HookPad(stop=lib.address_of("uc_emu_stop"), save=lib.address_of("uc_context_save"))
        self._pad_words = memoryview(self._pad).cast("B").cast("q")
        self._pad_longs = memoryview(self._pad).cast("B").cast("I")
        self._python_hooks = None if stubs.native_host() else stubs.PythonHooks(self._pad)
        self._step_hook: int | None = None
        self._breakpoints: dict[int, int] = {}
        self._stop_asked = False
        self._unanswered: tuple[int, bool, int] | None = None
        self._denied: PortDenied | None = None
        self._callback_error: BaseException | None = None
        self._restore, self._start, self._save = (
            engine.uc_context_restore,
            engine.uc_emu_start,
            engine.uc_context_save,
        )
        self._add_native_hook(lib.HOOK_BLOCK, "block", *_EVERY_ADDRESS)
        self._add_native_hook(lib.HOOK_INTR, "interrupt", *_EVERY_ADDRESS)
        self._unanswered_callback = lib.MemoryEvent(self._on_unanswered)
        self._answered: list[tuple[int, int]] = []
        self._gap_hooks: list[int] = []
        self._watch_gaps()
        self.context = self.new_context()
        self.reset()

    # -- state ---------------------------------------------------------------------------------------------------

    def new_context(self) -> CpuContext:
        """A context holding this CPU's present state."""
        made = CpuContext(self._uc)
        check(self._save(self._uc, made.handle), "to save a context")
        made.longs[_OLD_EXCEPTION] = _NONE32
        return made

    def reset(self) -> None:
        """The state that a 32-bit kernel gives a program: flat, paging off, x87 and SSE ready (SDM 3A, 9.1)."""
        state = self.context
        for number in range(8):
            state.quads[number] = 0
        state.eip = 0
        state.eflags = ctx.EFLAGS_FIXED
        state.cr0, state.cr2, state.cr3, state.cr4, state.efer = 0x33, 0, 0, 0x600, 0
        for name in ("es", "ss", "ds", "fs", "gs"):
            state.set_segment(name, 0, 0, 0xFFFFFFFF, 0xCF9300)
        state.set_segment("cs", 0, 0, 0xFFFFFFFF, 0xCF9B00)
        check(self._restore(self._uc, state.handle), "the reset state")
        for register, value in (
            (lib.REG_CR0, 0x33),
            (lib.REG_CR4, 0x600),
            (lib.REG_FPCW, 0x37F),
            (lib.REG_FPSW, 0),
            (lib.REG_FPTAG, 0xFFFF),
            (lib.REG_MXCSR, 0x1F80),
        ):
            word = ctypes.c_uint64(value)
            check(library().uc_reg_write(self._uc, register, ctypes.byref(word)), "the reset state")
        check(self._save(self._uc, state.handle), "to save the reset state")
        state.longs[_OLD_EXCEPTION] = _NONE32

    # -- running -------------------------------------------------------------------------------------------------

    def run(self, budget: int, steps: int | None = None) -> Exit:
        """Run ``context`` for at most ``budget`` blocks (and ``steps`` instructions).

        Returns why it came back; a pending cause is never lost.  Raises EngineError when the engine fails in a
        way that no exit describes.
        """
        state = self.context
        words, longs, pad = self._pad_words, self._pad_longs, self._pad
        eip = state.quads[ctx.EIP]
        again = 1 if state.resumes_at == eip else 0
        given = budget + again
        words[0] = given
        longs[9] = 0
        words[3] = state.handle
        if self._step_hook is not None or steps is not None:
            given_steps = self._prepare_steps(steps, again)
        else:
            given_steps = 0
        words[6] = eip if state.passes == eip else -1
        self._restore(self._uc, state.handle)
        error = self._start(self._uc, eip, 0, 0, 0)
        self.clock += given - again - words[0]
        if given_steps:
            self.instructions += given_steps - again - pad.steps
        state.resumes_at = -1
        if longs[9] == 1 and not error and self._denied is None:
            state.longs[_OLD_EXCEPTION] = _NONE32
            at = state.quads[ctx.EIP]
            if at != eip:
                state.passes = -1
            vector = longs[8]
            quads = state.longs
            self._gather_flags(state)
            return Trap(
                at,
                vector,
                0 if quads[_SOFTWARE] else quads[_ERROR],
                state.quads[ctx.CR2] & _NONE32 if vector == VECTOR_PF else 0,
                quads[ctx.HFLAGS32] & 3,
                quads[_SOFTWARE] != 0,
            )
        return self._other_exit(state, eip, longs[9], error)

    @staticmethod
    def _gather_flags(state: CpuContext) -> None:
        """Put the arithmetic flags where the next run takes them from.

        While the engine runs they are apart from EFLAGS, in a lazy form; it gathers them when it leaves and takes them
        apart when it starts.  A state captured inside a hook has to be gathered by hand.
        """
        if state.longs[ctx.CC_OP32] == ctx.CC_OP_EFLAGS:
            flags = state.quads[ctx.EFLAGS] & ~ctx.ARITHMETIC | state.quads[ctx.CC_SRC] & ctx.ARITHMETIC
            if state.longs[ctx.DF32] != 1:
                flags |= ctx.DIRECTION
            state.quads[ctx.EFLAGS] = flags
        else:
            state.quads[ctx.EFLAGS] = state.eflags

    def _other_exit(self, state: CpuContext, started: int, reason: int, error: int) -> Exit:
        if self._denied is not None:
            denied, self._denied = self._denied, None
            return denied
        self._save(self._uc, state.handle)
        state.longs[_OLD_EXCEPTION] = _NONE32
        at = state.quads[ctx.EIP] & _NONE32
        if at != started:
            state.passes = -1
        if self._callback_error is not None:
            failure, self._callback_error = self._callback_error, None
            raise failure
        if error:
            if error == lib.ERR_INSN_INVALID:
                return Trap(at, VECTOR_UD, 0, 0, state.cpl, False)
            if self._unanswered is not None:
                (physical, write, size), self._unanswered = self._unanswered, None
                return BusError(at, physical, write, size)
            check(error, f"to run at {at:#010x}")
        if reason == stubs.REASON_BUDGET:
            self.clock -= 1
            state.resumes_at = at
            return BudgetSpent(at)
        if reason == stubs.REASON_STEPS:
            self.clock -= 0
            self.instructions -= 1
            state.resumes_at = at
            return Stepped(at)
        if reason == stubs.REASON_BREAKPOINT:
            state.resumes_at = state.passes = at
            return BreakpointHit(at)
        if self._stop_asked:
            self._stop_asked = False
            return Stopped(at)
        return Halt(at)

    def stop(self) -> None:
        """From a device callback: come back at the next block's start with ``Stopped``."""
        self._stop_asked = True
        check(library().uc_emu_stop(self._uc), "to stop")

    def _prepare_steps(self, steps: int | None, again: int) -> int:
        if steps is None:
            self.count_instructions(False)
            return 0
        self.count_instructions(True)
        self._pad.steps = steps + again
        return steps + again

    def count_instructions(self, on: bool) -> None:
        """Install or remove the instruction counter that stepping needs; translations are dropped either way."""
        if on and self._step_hook is None:
            self._step_hook = self._add_native_hook(lib.HOOK_CODE, "steps", *_EVERY_ADDRESS)
            self.drop_all_code()
        elif not on and self._step_hook is not None:
            check(library().uc_hook_del(self._uc, self._step_hook), "to remove a hook")
            self._step_hook = None
            self.drop_all_code()

    # -- breakpoints ---------------------------------------------------------------------------------------------

    def set_breakpoint(self, address: int) -> None:
        """Stop before the instruction at a linear address."""
        if address not in self._breakpoints:
            self._breakpoints[address] = self._add_native_hook(lib.HOOK_CODE, "breakpoint", address, address)
            self.drop_all_code()

    def clear_breakpoint(self, address: int) -> None:
        hook = self._breakpoints.pop(address, None)
        if hook is not None:
            check(library().uc_hook_del(self._uc, hook), "to remove a hook")
            self.drop_all_code()

    # -- translations --------------------------------------------------------------------------------------------

    def flush_tlb(self) -> None:
        """Drop every cached translation of addresses, global ones too."""
        self._control(lib.CTL_TLB_FLUSH)

    def drop_all_code(self) -> None:
        """Drop every translated block: 36 µs, and everything is translated again."""
        self._control(lib.CTL_TB_FLUSH)

    def drop_code(self, first: int, end: int) -> None:
        """Drop the translated blocks of a linear range that is mapped under the CPU's present CR3 (3 µs)."""
        self._control(lib.CTL_TB_REMOVE_CACHE, ctypes.c_uint64(first), ctypes.c_uint64(end))

    # -- wiring --------------------------------------------------------------------------------------------------

    def map_ram(self, physical: int, size: int, host_address: int) -> None:
        """Back a physical range (bytes, page-aligned) with host memory that outlives this CPU."""
        check(
            library().uc_mem_map_ptr(self._uc, physical, size, lib.PROT_ALL, host_address),
            f"RAM at {physical:#x}",
        )
        self._answered.append((physical, physical + size))
        self._watch_gaps()

    def map_mmio(
        self, physical: int, size: int, read: Callable[[int, int], int], write: Callable[[int, int, int], None]
    ) -> None:
        """Let a device answer a physical range: ``read(offset, size)``, ``write(offset, size, value)``."""

        def on_read(uc: int, offset: int, width: int, data: int) -> int:
            return int(self._guard(read, 0, offset, width))

        def on_write(uc: int, offset: int, width: int, value: int, data: int) -> None:
            self._guard(write, None, offset, width, value)

        callbacks = lib.MmioRead(on_read), lib.MmioWrite(on_write)
        self._keep.extend(callbacks)
        check(
            library().uc_mmio_map(self._uc, physical, size, callbacks[0], None, callbacks[1], None),
            f"a device at {physical:#x}",
        )
        self._answered.append((physical, physical + size))
        self._watch_gaps()

    def connect_ports(self, read: PortReader, write: PortWriter) -> None:
        """Let a bus answer IN and OUT: ``read(port, size)``, ``write(port, size, value)``."""

        def on_read(uc: int, port: int, width: int, data: int) -> int:
            return int(self._guard(read, _NONE32, port, width)) if self._allows(port, width, False) else 0

        def on_write(uc: int, port: int, width: int, value: int, data: int) -> None:
            if self._allows(port, width, True):
                self._guard(write, None, port, width, value)

        self._add_callback(lib.HOOK_INSN, lib.PortRead(on_read), lib.INSN_IN)
        self._add_callback(lib.HOOK_INSN, lib.PortWrite(on_write), lib.INSN_OUT)

    def close(self) -> None:
        """Release the engine's handle; the contexts made from it stay readable."""
        handle, self._uc = self._uc, ctypes.c_void_p()
        if handle:
            library().uc_close(handle)

    def _allows(self, port: int, width: int, write: bool) -> bool:
        state = self.context
        self._save(self._uc, state.handle)
        state.longs[_OLD_EXCEPTION] = _NONE32
        self._gather_flags(state)
        if state.longs[ctx.HFLAGS32] & 3 == 0 or self.port_gate(self, port, width):
            return True
        self._denied = PortDenied(state.quads[ctx.EIP] & _NONE32, port, width, write)
        library().uc_emu_stop(self._uc)
        return False

    def _guard(self, function: Callable[..., object], default: object, *arguments: int) -> int:
        """Run device code; what it raises comes out of ``run`` instead of dying in a C callback."""
        try:
            return function(*arguments)  # type: ignore[return-value]
        except BaseException as error:
            self._callback_error = error
            library().uc_emu_stop(self._uc)
            return default  # type: ignore[return-value]

    def _watch_gaps(self) -> None:
        """Hook what nobody answers, and only that: a memory hook over RAM makes every store there 18 times slower."""
        for hook in self._gap_hooks:
            check(library().uc_hook_del(self._uc, hook), "to remove a hook")
        target = ctypes.cast(self._unanswered_callback, ctypes.c_void_p)
        first, self._gap_hooks = 0, []
        for start, end in [*sorted(self._answered), (PHYSICAL_END, PHYSICAL_END)]:
            if first < start:
                self._gap_hooks.append(self._add_hook(lib.HOOK_MEM_UNMAPPED, target, first, start - 1))
            first = max(first, end)

    def _on_unanswered(self, uc: int, kind: int, address: int, size: int, value: int, data: int) -> bool:
        self._unanswered = (address, kind == lib.MEM_WRITE_UNMAPPED, size)
        return False

    def _control(self, kind: int, *arguments: object) -> None:
        check(library().uc_ctl(self._uc, control(kind, len(arguments), 1), *arguments), f"control {kind}")

    def _add_native_hook(self, kind: int, name: str, first: int, last: int) -> int:
        address = stubs.stub_address(name) if self._python_hooks is None else self._python_hooks.address(name)
        return self._add_hook(kind, ctypes.c_void_p(address), first, last)

    def _add_callback(self, kind: int, callback: object, *extra: int) -> None:
        self._keep.append(callback)
        self._add_hook(kind, ctypes.cast(callback, ctypes.c_void_p), *_EVERY_ADDRESS, *extra)  # type: ignore[arg-type]

    def _add_hook(self, kind: int, target: ctypes.c_void_p, first: int, last: int, *extra: int) -> int:
        handle = ctypes.c_size_t()
        rest = [ctypes.c_int(each) for each in extra]
        check(
            library().uc_hook_add(
                self._uc, ctypes.byref(handle), kind, target, ctypes.byref(self._pad), first, last, *rest
            ),
            f"hook {kind}",
        )
        return handle.value


__all__ = ["NO_ADDRESS", "Cpu", "EngineError"]
