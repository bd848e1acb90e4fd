"""The gate: guest kernel code calls an exported symbol, ``int 0xF0`` brings the call here (DESIGN, "Kernel code").

EAX is the symbol's number; the return address and the C arguments are on the stack of the caller.  A function may
sleep: the call's context belongs to its task.  From ring 3 the gate is a general protection fault.
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.engine.context import EAX, ESP, CpuContext
from sandbox.kernel.base.wait import WrongContext
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.access import BadPointer
from sandbox.kernel.mm.kmalloc import BadKfree
from sandbox.kernel.mm.kmap import BadKunmap, KmapDeadlock, NoPkmap
from sandbox.kernel.mm.kmap_atomic import KmapError
from sandbox.kernel.mm.page import BadPage
from sandbox.kernel.mm.page_kva import BadKva, KvaDeadlock, NoKva
from sandbox.kernel.mm.vmalloc import BadVfree
from sandbox.kernel.module.owners import Owners, WrongOwner
from sandbox.records import dataclass
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SIZE

STUB_BYTES = 16
MOST = 32
"""Bytes that a return address and the arguments of any symbol take."""
Function = Callable[..., int | None]
"""Takes the call's arguments, words without a sign."""


class GuestKernelBug(SandboxError):
    """Guest kernel code did what no kernel forgives: a wrong free, a call where it must not be made, a fault."""

    exit_status = 1


class NoSuchExport(SandboxError):
    """``int 0xF0`` with a number that no symbol has."""

    exit_status = 1


_BUGS = (
    BadPage, BadKva, NoKva, KvaDeadlock, BadKunmap, NoPkmap, KmapDeadlock, BadVfree, BadKfree, WrongContext, BadPointer,
    WrongOwner, KmapError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Export:
    """A symbol that Python answers.  ``arguments`` counts words on the stack; ``doc`` is one line."""

    name: str
    arguments: int
    function: Function
    doc: str = ""
    saved: int = 0
    """Words that the caller's routine has pushed above its return address."""


class Gate:
    """The table of one kernel: symbols by name for the loader, functions by number for the trap."""

    def __init__(
        self,
        kernel: Kernel,
        answered: list[Export],
        routines: dict[str, str],
        data: tuple[str, ...],
        symbolize: Callable[[int], str],
        owners: Owners,
    ) -> None:
        self._peek, self._log, self._symbolize = kernel.peek, kernel.log, symbolize
        self._words = kernel.memory.words
        self.exports = answered
        self.owners = owners
        """Which module has what."""
        self._answers = [self._answer(each) for each in answered]
        self._smp = kernel.smp
        symbols = kernel.image.symbols
        first = symbols["export_stubs"]
        self.symbols = {each.name: first + STUB_BYTES * number for number, each in enumerate(answered)}
        """Linear addresses of everything that guest kernel code may name."""
        self.symbols.update({name: symbols[routine] for name, routine in routines.items()})
        self.symbols.update({name: symbols[name] for name in data})
        self.calls = 0
        self._reports = kernel.config.policies["bugs"] == "report"

    def call(self, context: CpuContext) -> None:
        """Answer one call; EAX is the result.

        Raises NoSuchExport, GuestKernelBug, and whatever the function raises for the kernel's own sake.
        """
        self.calls += 1
        quads = context.quads
        number = quads[EAX] & 0xFFFFFFFF
        if number >= len(self.exports):
            raise NoSuchExport(
                f"int 0xF0 with number {number}, at {context.eip - 2:#010x}: {len(self.exports)} symbols are exported"
            )
        function, count, above = self._answers[number]
        esp = quads[ESP] & 0xFFFFFFFF
        kstack, words = self._smp.this_cpu.kstack, self._words
        at = esp + above - kstack.stack_top + PAGE_SIZE
        first = (kstack.frame * PAGE_SIZE + at >> 2) + 1
        try:
            if not 0 <= at < PAGE_SIZE - MOST or at & 3 or count > 3:
                result = function(*self.arguments(esp + above, count))
            elif count == 3:  # the usual place, and no more than that: without a call and without a tuple
                result = function(words[first], words[first + 1], words[first + 2])
            elif count == 2:
                result = function(words[first], words[first + 1])
            else:
                result = function(words[first]) if count else function()
        except _BUGS as error:
            result = self._bug(error, esp + 4 * self.exports[number].saved)
        quads[EAX] = (result or 0) & 0xFFFFFFFF

    def _answer(self, export: Export) -> tuple[Function, int, int]:
        """What answers a call, how many words of the stack it wants, and how many bytes above ESP they begin.

        What gives the caller something, or takes it back, wants the return address too.
        """
        booked = self.owners.booked(export.name, export.function)
        if booked is None:
            return export.function, export.arguments, 4 * export.saved
        return booked, export.arguments + 1, 4 * export.saved - 4

    def arguments(self, esp: int, count: int) -> tuple[int, ...]:
        """The words above the return address: of this CPU's kernel stack as a rule, else of wherever it lies."""
        if not count:
            return ()
        kstack = self._smp.this_cpu.kstack
        at = esp - kstack.stack_top + PAGE_SIZE
        if 0 <= at < PAGE_SIZE - MOST and not at & 3:
            first = (kstack.frame * PAGE_SIZE + at >> 2) + 1
            return tuple(self._words[first : first + count])
        raw = self._peek.peek(None, esp + 4, 4 * count).ljust(4 * count, b"\0")
        return tuple(int.from_bytes(raw[n : n + 4], "little") for n in range(0, 4 * count, 4))

    def _bug(self, error: SandboxError, esp: int) -> int:
        if self._reports:
            self._log.printk(f"{error.summary}\n")
            return 0
        where = self._symbolize(self._peek.word(esp))
        raise GuestKernelBug(f"{error.summary}, called from {where}", error.detail) from error
