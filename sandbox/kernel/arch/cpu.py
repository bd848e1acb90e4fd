"""Per-CPU kernel state, and how Python runs a kernel routine on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from sandbox.engine.context import CR3, EAX, EBX, ECX, EDI, EDX, EIP, ESI, ESP, XMM, XMM_STRIDE, CpuContext
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import (
    BlocksSpent,
    BreakpointHit,
    Exit,
    Halt,
    ModeChanged,
    Paused,
    Stepped,
    StoppedAhead,
    Trap,
    Watched,
)
from sandbox.kernel.arch.vmlinux import Routines
from sandbox.x86.errors import SandboxError

KERNEL_GATE = 0xF0
CALL_BUDGET = 1 << 22
"""Blocks that a kernel routine may run; the longest copies a few pages."""
ROUTINES_BETWEEN_GLANCES = 64
"""Routines after which the host's time is looked at: a single system call may need very many."""
CALL_DEPTH = 8
CLEAR_PAGE_BLOCKS, COPY_PAGE_BLOCKS, INVLPG_BLOCKS = 18, 34, 3
"""What ``call`` of each adds to the CPU's clock: transfers of control from the stub to its HLT."""
STORE_BLOCKS = 2
"""What ``call`` of store_window adds, but for the jump that ``put_window`` has instead."""
WINDOW_BYTES = 128
_WINDOW = tuple((XMM + at * XMM_STRIDE // 16, at) for at in range(0, WINDOW_BYTES, 16))
"""Of each piece of a window its place in a context, and in the window."""
_ASKED_FOR = (BreakpointHit, ModeChanged, Stepped, Watched)
"""Exits that somebody has asked for who follows the CPU."""
STACK_GAP = 64
"""Bytes left alone under the stack pointer of an interrupted routine."""


class RoutineLost(SandboxError):
    """A kernel routine did not come back: it ran out of its budget, or calls nest without end."""

    exit_status = 3


class KernelStack:
    """The ring-0 contexts of one flow of control: one a nested call, made when first needed."""

    __slots__ = ("contexts", "depth", "entry", "frame", "module_calls", "stack_top")

    def __init__(self, stack_top: int, frame: int) -> None:
        self.contexts: list[CpuContext] = []
        self.depth = 0
        self.module_calls = 0
        """Calls of C functions that have not returned: guest kernel code may be at work."""
        self.entry = 0
        """Linear address of the C function that was called last."""
        self.frame = frame
        """The frame of its page, lowmem."""
        self.stack_top = stack_top


class Thread(Protocol):
    """A task, as far as its CPU knows it."""

    pid: int
    pending: int


class AddressSpace(Protocol):
    """An mm, as far as the CPU that has it loaded knows it."""

    pgd: int
    cr3: int
    cpu_mask: int


class TrapHandler(Protocol):
    """Who answers what stops kernel code; ``kernel.traps`` does."""

    def kernel_gate(self, cpu: KernelCpu, context: CpuContext) -> None:
        """Guest kernel code called an exported symbol."""
        ...

    def kernel_trap(self, cpu: KernelCpu, context: CpuContext, exit_: Exit) -> None:
        """A routine stopped otherwise; it goes on afterwards."""
        ...

    def call_budget(self) -> int:
        """Blocks that guest kernel code may run before somebody looks at the limits."""
        ...

    def check_limits(self) -> None:
        """Guest kernel code has run for a while."""
        ...

    def check_time(self) -> None:
        """Only the host's time may end a routine here."""
        ...

    def paused(self, cpu: KernelCpu) -> None:
        """A routine was paused with blocks left, and goes on afterwards."""
        ...


class KernelCpu:
    """One CPU as the kernel sees it.

    ``call`` runs a ring-0 routine on the kernel stack of the present flow with the present CR3; a trap in it comes
    back here, after the engine has stopped, and is handed to ``traps``, which may call further routines.
    """

    __slots__ = (
        "active_mm", "calls", "cr3", "current", "gdt", "idle", "in_interrupt", "index", "ipi", "ipis", "kstack",
        "let_go", "pending_ipis", "replaced", "routines", "template", "traps", "tss", "vcpu", "way_out",
    )  # fmt: skip

    def __init__(self, index: int, vcpu: Cpu, routines: Routines) -> None:
        self.index = index
        self.vcpu = vcpu
        self.routines = routines
        self.template = vcpu.new_context()
        self.cr3 = 0
        self.traps: TrapHandler
        self.current: Thread | None = None
        self.active_mm: AddressSpace | None = None
        self.idle = KernelStack(0, 0)
        self.ipi = KernelStack(0, 0)
        self.kstack = self.idle
        self.gdt = 0
        """Physical address of this CPU's GDT."""
        self.tss = 0
        """Physical address of this CPU's TSS."""
        self.calls = 0
        self.ipis = 0
        self.pending_ipis: list[Ipi] = []
        """Sent and not taken, the oldest first."""
        self.in_interrupt = False
        """A device's interrupt is being answered here."""
        self.way_out: CpuContext | None = None
        """What kernel code has to run before ring 3 goes on, or before anybody else does (``finish``)."""
        self.replaced = 0
        """A frame to be let go of behind it, 0 for none."""
        self.let_go: Callable[[int], object] = lambda pfn: None

    @property
    def module_calls(self) -> int:
        """Not 0: guest kernel code may be at work on this CPU."""
        return self.kstack.module_calls

    def call(self, routine: int, eax: int = 0, edx: int = 0, ecx: int = 0, esi: int = 0, edi: int = 0) -> int:
        """Run the routine at a linear address; its EAX.

        Raises RoutineLost, and whatever the trap handler raises for a fault that nothing resolves.
        """
        context = self._enter(self.kstack)
        quads = context.quads
        quads[EIP] = self.routines.call_stub
        quads[EBX] = routine
        quads[EAX], quads[ECX], quads[EDX], quads[ESI], quads[EDI] = eax, ecx, edx, esi, edi
        self._finish(context)
        return quads[EAX] & 0xFFFFFFFF

    def on_way_out(self, entry: int, blocks: int, calls: int, ebx: int, esi: int, edi: int) -> memoryview[int]:
        """Have kernel code run on the way to ring 3, in one call of the engine with what the program does next.

        Its registers, for more of them.  The clock and ``calls`` have it from here on, as if it had run in ``calls``
        routines of ``blocks``.  Whoever calls a routine, lets another flow go on or tells of memory runs it first
        (``finish``), so that nobody finds it undone.
        """
        kstack = self.kstack
        if self.way_out is None and not kstack.depth and kstack.contexts:
            context = kstack.contexts[0]
            quads = context.quads
            quads[CR3], quads[ESP] = self.cr3, kstack.stack_top
        else:
            context = self._enter(kstack)
            quads = context.quads
            kstack.depth -= 1
        self.way_out = context
        quads[EIP] = entry
        quads[EBX], quads[ESI], quads[EDI] = ebx, esi, edi
        self.calls += calls
        self.vcpu.go_ahead(context, CALL_BUDGET, blocks)
        return quads

    def finish(self) -> None:
        """Run what is on the way out, which somebody needs done before ring 3 goes on."""
        context, self.way_out = self.way_out, None
        if context is not None and self.vcpu.take_back():
            self._run_through(context, None)
        self._let_go()

    def went_out(self, exit_: Exit, outer: CpuContext, blocks: int) -> Exit:
        """Behind a run of ``outer`` with something on the way out: its exit, once that is done."""
        context, self.way_out = self.way_out, None
        if exit_.__class__ is StoppedAhead and context is not None:
            self.vcpu.context = outer
            self._run_through(context, exit_.cause)
            exit_ = self.vcpu.run(blocks)
        pfn = self.replaced  # _let_go, without the call: each fault comes here
        if pfn:
            self.replaced = 0
            self.let_go(pfn)
        return exit_

    def _let_go(self) -> None:
        pfn, self.replaced = self.replaced, 0
        if pfn:
            self.let_go(pfn)

    def _run_through(self, context: CpuContext, exit_: Exit | None) -> None:
        """To the HLT, without a block on the clock; ``exit_`` is what has stopped it already.

        Who asks to have it done is told of none of its steps; who was told where it stopped finds the time there.
        """
        kstack, vcpu = self.kstack, self.vcpu
        outer, clock = vcpu.context, vcpu.clock
        kstack.depth += 1
        try:
            vcpu.context = context
            if exit_ is None:
                exit_ = self._run_untold()
            else:
                vcpu.clock = clock - vcpu.owed
                exit_ = exit_ if vcpu.judge is None else vcpu.judge(exit_)
            if exit_.__class__ is not Halt:
                self._run_on(context, kstack, exit_)
        finally:
            kstack.depth -= 1
            vcpu.context = outer
            vcpu.clock = clock

    def _run_untold(self) -> Exit:
        exit_ = Cpu.run(self.vcpu, CALL_BUDGET)
        while isinstance(exit_, _ASKED_FOR):
            exit_ = Cpu.run(self.vcpu, CALL_BUDGET)
        return exit_

    def call_c(self, routine: int, *arguments: int) -> int:
        """The same for a function with up to four C arguments, of the kernel or of a module."""
        kstack = self.kstack
        context = self._enter(kstack)
        quads = context.quads
        quads[EIP] = self.routines.call_module
        quads[EBX] = routine
        quads[EAX], quads[EDX], quads[ECX], quads[ESI] = (*arguments, 0, 0, 0, 0)[:4]
        kstack.module_calls += 1
        caller, kstack.entry = kstack.entry, routine
        try:
            self._finish(context)
        finally:
            kstack.module_calls -= 1
            kstack.entry = caller
        return quads[EAX] & 0xFFFFFFFF

    def store(self, linear: int, data: bytes) -> None:
        """Let the CPU store bytes of the kernel's own making, through XMM0 to XMM7, at a kernel address.

        The routine stores whole windows of 128 bytes: the buffer must have room for the last one.
        """
        for at in range(0, len(data), WINDOW_BYTES):
            context = self._enter_with(data[at : at + WINDOW_BYTES])
            quads = context.quads
            quads[EBX], quads[EDI] = self.routines.store_window, linear + at
            self._finish(context)

    def put(self, target: int, linear: int, data: bytes) -> int:
        """``store`` of at most 128 bytes and ``copy_user`` of them to a user address, as one routine.

        The answer is ``copy_user``'s; the clock and ``calls`` have it as two.
        """
        self.vcpu.clock += STORE_BLOCKS
        self.calls += 1
        if not self.calls % ROUTINES_BETWEEN_GLANCES and self.current is not None:
            self.traps.check_time()
        context = self._enter_with(data)
        quads = context.quads
        quads[EBX] = self.routines.put_window
        quads[ECX], quads[ESI], quads[EDI] = len(data), target, linear
        self._finish(context)
        return quads[EAX] & 0xFFFFFFFF

    def _enter_with(self, piece: bytes) -> CpuContext:
        """A call with up to 128 bytes in XMM0 to XMM7, and zeros behind them."""
        context = self._enter(self.kstack)
        quads, data = context.quads, context.data
        quads[EIP] = self.routines.call_stub
        piece = piece.ljust(WINDOW_BYTES, b"\0")
        for place, at in _WINDOW:
            data[place : place + 16] = piece[at : at + 16]
        return context

    def take_ipis(self) -> None:
        """Answer what other CPUs have sent: this CPU is where it can be interrupted."""
        while self.pending_ipis:
            ipi = self.pending_ipis.pop(0)
            self.ipis += 1
            with self.on_interrupt_stack():
                ipi.handler(self)
            ipi.taken = True

    @contextmanager
    def on_interrupt_stack(self, borrow: bool = True) -> Iterator[None]:
        """Calls inside run on the stack for interrupts, whatever this CPU was doing; without ``borrow``, as usual."""
        kstack, outer = self.kstack, self.vcpu.context
        if borrow:
            self.kstack = self.ipi
        try:
            yield
        finally:
            self.kstack = kstack
            self.vcpu.context = outer

    def _enter(self, kstack: KernelStack) -> CpuContext:
        if self.way_out is not None:
            self.finish()
        depth = kstack.depth
        if depth == len(kstack.contexts):
            if depth == CALL_DEPTH:
                raise RoutineLost(f"kernel routines nest {depth} deep")
            made = self.vcpu.new_context()
            made.copy_from(self.template)
            kstack.contexts.append(made)
        context = kstack.contexts[depth]
        quads = context.quads
        quads[CR3] = self.cr3
        quads[ESP] = kstack.contexts[depth - 1].quads[ESP] - STACK_GAP & 0xFFFFFFFF if depth else kstack.stack_top
        kstack.depth = depth + 1
        return context

    def _finish(self, context: CpuContext) -> None:
        """Run an entered context to its HLT."""
        kstack, vcpu = self.kstack, self.vcpu
        outer = vcpu.context
        self.calls += 1
        try:
            if not self.calls % ROUTINES_BETWEEN_GLANCES and self.current is not None:
                self.traps.check_time()
            vcpu.context = context
            exit_ = vcpu.run(self.traps.call_budget() if kstack.module_calls else CALL_BUDGET)
            if exit_.__class__ is not Halt or kstack.module_calls:
                self._run_on(context, kstack, exit_)
        finally:
            kstack.depth -= 1
            vcpu.context = outer

    def _run_on(self, context: CpuContext, kstack: KernelStack, exit_: Exit) -> None:
        """Answer what has stopped a routine, and let it go on, until it is at its end."""
        vcpu, traps = self.vcpu, self.traps
        while True:
            kind, left = exit_.__class__, 0
            if kind is Trap and exit_.vector == KERNEL_GATE and exit_.software:  # type: ignore[attr-defined]
                traps.kernel_gate(self, context)
            elif kind is Halt and (not kstack.module_calls or self._is_the_end(exit_)):
                return
            elif kind is Paused:
                left = max(1, vcpu.blocks_left)
                traps.paused(self)
            else:
                self._trapped(exit_, context)
            vcpu.context = context
            exit_ = vcpu.run(left or (traps.call_budget() if kstack.module_calls else CALL_BUDGET))

    def _is_the_end(self, exit_: Exit) -> bool:
        """The HLT is the one behind a call, not guest kernel code's own."""
        return self.routines.call_stub <= exit_.eip <= self.routines.start_thread

    def _trapped(self, exit_: Exit, context: CpuContext) -> None:
        if type(exit_) is not BlocksSpent:
            self.traps.kernel_trap(self, context, exit_)
        elif self.module_calls:
            self.traps.check_limits()
        else:
            raise RoutineLost(f"kernel routine at {context.eip:#010x} ran {CALL_BUDGET} blocks without returning")


class Ipi:
    """An inter-processor interrupt: what the receiver is to do, and whether it has."""

    __slots__ = ("handler", "taken")

    def __init__(self, handler: Callable[[KernelCpu], None]) -> None:
        self.handler = handler
        self.taken = False
