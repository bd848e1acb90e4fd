"""The debugger's core: break, step, catch faults, look.  Looking never changes the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from sandbox.debug import view
from sandbox.debug.monitor import Stepper
from sandbox.engine.context import CpuContext
from sandbox.engine.exits import Exit, Stepped, Trap
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.events import PageFault
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.task.task import Task
from sandbox.runner.result import Result
from sandbox.runner.run import Session
from sandbox.x86.error_code import PageFaultCode
from sandbox.x86.errors import SandboxError
from sandbox.x86.numbers import LAST, parse_address, parse_number, printed
from sandbox.x86.walk import Access, Walk

HELP = {
    "step [N]": "run N instructions of the program (default 1)",
    "continue": "run to the next stop",
    "break WHERE": "stop before the instruction at a symbol or address",
    "delete WHERE": "remove a breakpoint",
    "catch [off]": "stop at every page fault, before it is answered",
    "regs": "registers",
    "code [WHERE] [N]": "disassemble N instructions",
    "x WHERE [BYTES]": "memory",
    "walk WHERE [w|x]": "the page walk, for a read, a write or a fetch",
    "maps": "areas of the task and regions of the kernel",
    "tasks": "all tasks",
    "quit": "leave",
}


class DebugCommandError(SandboxError):
    """A command that cannot be carried out."""

    exit_status = 2


def _first_sign(text: str) -> tuple[str, str, str]:
    """What is before the first plus or minus, the sign, and what is behind it; empty where there is none."""
    at = min((text.index(sign) for sign in "+-" if sign in text), default=len(text))
    return text[:at], text[at : at + 1], text[at + 1 :]


class _Quit(Exception):
    pass


class Debugger(Stepper):
    """Commands on one session.  ``commands`` yields lines; ``tell`` gets what they print.

    ``person`` tells that it is somebody at a terminal who gives them: the time limit stands still meanwhile.
    """

    def __init__(
        self, session: Session, commands: Iterable[str], tell: Callable[[str], None], person: bool = False
    ) -> None:
        super().__init__()
        self._person = person
        self._session = session
        self._system, self._kernel = session.system, session.kernel
        self._commands = iter(commands)
        self._tell = tell
        self._catching = False
        self._breakpoints: set[int] = set()
        self._first: int | None = None
        self._context: CpuContext | None = None
        self._task: Task | None = None
        self._mm: Mm | None = None
        self.walk: Walk | None = None
        """What the last ``walk`` found."""
        self.maps: dict[str, Any] | None = None
        """What the last ``maps`` showed."""

    def obey(self) -> Result | None:
        """Stop at the program's first instruction, then obey; the result, or None when left by ``quit``."""
        task = self._session.load()
        self._system.traps.monitor = self
        self._task, self._mm, self._context = task, task.mm, task.context
        entry = task.context.eax
        self._set_breakpoint(entry)
        self._breakpoints.discard(entry)
        self._first = entry
        self._kernel.bus.subscribe(self._after_fault, PageFault)
        try:
            return self._session.finish()
        except _Quit:
            return None

    # -- stops ---------------------------------------------------------------------------------------------------

    def stopped(self, cpu: KernelCpu, exit_: Exit) -> None:
        if self._first is not None and exit_.eip == self._first:
            if self._first not in self._breakpoints:
                for vcpu in self._session.machine.cpus:
                    vcpu.clear_breakpoint(self._first)
            self._first = None
        self.steps = None
        self._look_at(self._kernel.sched.task_of(cpu), cpu.vcpu.context)
        why = "" if isinstance(exit_, Stepped) else "breakpoint, "
        self._tell(f"{why}task {cpu.current.pid if cpu.current else 0}, time {self._kernel.clock.now}")
        self._obey()

    def fault(self, task: Task | None, context: CpuContext, trap: Trap) -> None:
        if not self._catching:
            return
        self._look_at(task, context)
        words = PageFaultCode(trap.error_code).describe_at(trap.eip, trap.address)
        who = f"task {task.pid}" if task is not None else "no task"
        self._tell(f"page fault at {trap.address:08x}, {words}, {who}, time {self._kernel.clock.now}")
        self._obey()

    def _after_fault(self, event: PageFault) -> None:
        if self._catching:
            self._tell(f"answered: {event.resolution}")

    def _look_at(self, task: Task | None, context: CpuContext) -> None:
        self._task, self._context = task, context
        self._mm = task.mm if task is not None else None

    def _obey(self) -> None:
        """Carry out commands until one lets the machine go on."""
        assert self._context is not None
        at = self._context.code_address(self._context.eip)
        self._say(view.code_lines(self._system, self._task, self._mm, at))
        for line in self._lines():
            words = line.split("#")[0].split()
            if not words:
                continue
            try:
                if self._command(words[0], words[1:]):
                    return
            except DebugCommandError as error:
                self._tell(f"error: {error.summary}")
        self._quit()

    def _lines(self) -> Iterator[str]:
        """The commands; what a person needs to give one is no time of the run."""
        while True:
            began = time.monotonic()
            line = next(self._commands, None)
            if self._person:
                self._kernel.sched.excuse(time.monotonic() - began)
            if line is None:
                return
            yield line

    def _quit(self) -> NoReturn:
        raise _Quit

    # -- commands ------------------------------------------------------------------------------------------------

    def _command(self, name: str, words: list[str]) -> bool:
        """True when the machine shall go on."""
        matches = [each.split()[0] for each in HELP if each.split()[0].startswith(name)]
        full = {"s": "step", "c": "continue", "b": "break", "q": "quit", "x": "x"}.get(name) or (
            name if name in matches else matches[0] if len(matches) == 1 else ""
        )
        if name in ("help", "h", "?"):
            width = max(map(len, HELP))
            self._say(f"{usage:{width}}  {what}" for usage, what in HELP.items())
            return False
        if not full:
            raise DebugCommandError(f"no command {name!r}; try help")
        named = [at > 0 and word.startswith("<") and word.endswith(">") for at, word in enumerate(words)]
        words = [word for word, beside in zip(words, named, strict=True) if not beside]
        return bool(getattr(self, f"_do_{full}")(words))

    def _do_step(self, words: list[str]) -> bool:
        count = self._number(words[0]) if words else 1
        if count < 1:
            raise DebugCommandError(f"step {count}: one instruction is the least")
        self.steps = count
        return True

    def _do_continue(self, words: list[str]) -> bool:
        return True

    def _do_break(self, words: list[str]) -> None:
        address = self._where(words)
        self._set_breakpoint(address)
        self._tell(f"breakpoint at {address:08x}")

    def _do_delete(self, words: list[str]) -> None:
        address = self._where(words)
        if address not in self._breakpoints:
            raise DebugCommandError(f"no breakpoint at {address:08x}")
        self._breakpoints.discard(address)
        for vcpu in self._session.machine.cpus:
            vcpu.clear_breakpoint(address)

    def _do_catch(self, words: list[str]) -> None:
        if words not in ([], ["off"]):
            raise DebugCommandError("catch takes nothing, or off")
        self._catching = not words
        self._tell("page faults are caught" if self._catching else "page faults are not caught")

    def _do_regs(self, words: list[str]) -> None:
        assert self._context is not None
        self._say(view.registers(self._context))

    def _do_code(self, words: list[str]) -> None:
        assert self._context is not None
        count = self._number(words.pop()) if len(words) > 1 else 8
        address = self._where(words) if words else self._context.eip
        self._say(view.code_lines(self._system, self._task, self._mm, address, count))

    def _do_x(self, words: list[str]) -> None:
        size = self._number(words.pop()) if len(words) > 1 else 64
        self._say(view.memory_lines(self._kernel, self._mm, self._where(words), min(size, 1 << 16)))

    def _do_walk(self, words: list[str]) -> None:
        kind = words.pop() if len(words) > 1 else "r"
        if kind not in ("r", "w", "x"):
            raise DebugCommandError(f"walk {kind}: r for a read, w for a write, x for a fetch")
        access = Access(write=kind == "w", user=True, fetch=kind == "x")
        self.walk = view.walk_of(self._kernel, self._mm, self._where(words), access)
        self._say(self.walk.lines())

    def _do_maps(self, words: list[str]) -> None:
        self.maps = view.map_dict(self._system, self._mm)
        self._say(view.map_lines(self._system, self._mm))

    def _do_tasks(self, words: list[str]) -> None:
        for task in self._kernel.tasks.values():
            waits = f", waits for {task.wchan}" if task.state.value == "sleeping" else ""
            self._tell(f"{task.pid:>4}  {task.comm:15}  {task.state.value}{waits}, CPU {task.cpu.index}")

    def _do_quit(self, words: list[str]) -> None:
        self._quit()

    def _set_breakpoint(self, address: int) -> None:
        self._breakpoints.add(address)
        for vcpu in self._session.machine.cpus:
            vcpu.set_breakpoint(address)

    def _where(self, words: list[str]) -> int:
        """A linear address: a number, a register (``$esp``), a program or kernel symbol, with ``+`` or ``-`` offset."""
        if not words:
            raise DebugCommandError("an address is missing")
        text = printed(" ".join(words))
        base, sign, offset = (part.strip() for part in _first_sign(text))
        if sign and not base:
            raise DebugCommandError(f"{text}: no address from 0 to 4 GB")
        found = self._named(base)
        if found is None:
            found = self._number(base, parse_address)
        if sign:
            found += self._number(offset) * (-1 if sign == "-" else 1)
        if not 0 <= found <= LAST:
            raise DebugCommandError(f"{text}: no address from 0 to 4 GB")
        return found

    def _named(self, name: str) -> int | None:
        """The value of a register, or the address of a symbol."""
        assert self._context is not None
        general = self._context.general()
        register = name.removeprefix("$")
        if register == "eip":
            return self._context.eip
        if register in general:
            return general[register] & LAST
        table = self._system.symbols.program_symbols(self._task) if self._task is not None else None
        found = table.address(name) if table is not None else None
        return found if found is not None else self._kernel.image.symbols.get(name)

    @staticmethod
    def _number(text: str, parse: Callable[[str], int] = parse_number) -> int:
        try:
            return parse(text)
        except ValueError as error:
            past = "past" in str(error)
            raise DebugCommandError(
                str(error) if past else f"{text!r} is neither a number nor a known symbol"
            ) from None

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._tell(line)
