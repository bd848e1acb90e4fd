"""A program or a module under the mini-kernel as a target."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING

from sandbox.debug.program_files import ProgramFiles
from sandbox.debug.signals import SignalJudge
from sandbox.debug.stops import DEATH, HELD, WAITING, Stop, StopKind
from sandbox.debug.target import Refused, Target
from sandbox.debug.timeline import Woken
from sandbox.engine.context import CpuContext
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Exit, Trap
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.events import Killed, ModuleChange
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.module.loader import Module
from sandbox.kernel.task.task import State, Task
from sandbox.records import replace
from sandbox.runner.modules import ModuleSession
from sandbox.runner.result import Result
from sandbox.runner.run import Session

if TYPE_CHECKING:
    from sandbox.debug.lines import Line, LineTable
    from sandbox.debug.unwind import Unwinder


class KernelTarget(Target):
    """One session.  The first stop is the program's first instruction, or the module's ``init_module``."""

    session: Session | ModuleSession

    def __init__(self, name: str, session: Session | ModuleSession) -> None:
        super().__init__(name, session.machine)
        self.session = session
        self.kind = "module" if isinstance(session, ModuleSession) else "program"
        self.system, self.kernel = session.system, session.kernel
        self.asks = True
        """Somebody may want to stop at the next page fault, and to hear how it was answered."""
        self.fault: Callable[[Task | None, CpuContext, Trap], None] = lambda task, context, trap: None
        """A page fault, before it is answered; set by who catches them, and called by the kernel as its monitor's."""
        self.task: Task | None = None
        """The task that is looked at, None where none runs."""
        self.stops_at_waits = False
        """Somebody looks for the place where the host was waited for."""
        self._context: CpuContext | None = None
        self._first: int | None = None
        self._tables: dict[object, LineTable] = {}
        self.files = ProgramFiles(self.kernel, self.system.symbols)
        self.system.traps.monitor = self
        self.kernel.entries.traced = True
        self.judge = self.kernel.signal_delivery.judge = SignalJudge(self.kernel, self.control)
        self.control.check_time = self.kernel.sched.check_time
        self.kernel.sched.on_wait, self.kernel.sched.on_stuck = self._waits, self._stuck
        self.kernel.bus.subscribe(self._killed, Killed)
        named, image = self.system.gate.symbols, self.kernel.image.symbols
        self._stubs = {address: name for name, address in named.items() if name not in image}
        """Names of what modules call and Python answers, by the address of the stub."""

    # -- running -------------------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        return self.kernel.clock.machine

    @property
    def fault_count(self) -> int:
        return self.kernel.stats.page_faults

    def finish(self) -> Result:
        session = self.session
        if isinstance(session, Session):
            session.on_loaded = lambda task: self._begin_at(task.context.eax)
            return session.finish()
        end = self.kernel.bus.subscribe(self._loaded, ModuleChange)
        try:
            return session.finish()
        finally:
            end()

    def release(self) -> None:
        self.session.close()

    def excuse(self, seconds: float) -> None:
        self.kernel.sched.excuse(seconds)

    def _waits(self) -> None:
        """The host is waited for, inside a system call: Ctrl-C has its stop here."""
        if self.timeline is not None:
            self.timeline.look_for_face()
        if self.control.interrupted or self.stops_at_waits:
            kind = StopKind.INTERRUPT if self.control.interrupted else StopKind.CATCH
            self.control.interrupted, self.control.goal = False, None
            cpu = self.kernel.this_cpu.vcpu
            self.hold(self._between(cpu, kind, "interrupted, while it waits for the host", WAITING))

    def _stuck(self) -> bool:
        """All who may run sleep, and perhaps for those who are held back."""
        tasks = self.kernel.tasks.values()
        there = [task.pid for task in tasks if task.runs and not task.kthread and task.state is not State.ZOMBIE]
        held = [pid for pid in there if pid in self.judge.held]
        if not held:
            return False
        asleep = next((pid for pid in there if pid not in held), 0)
        why = "every task that may run sleeps" if asleep else "no task is left that may run"
        words = f"{why}; held back: task {', '.join(str(pid) for pid in held)}"
        stop = self._between(self.kernel.this_cpu.vcpu, StopKind.CATCH, words, HELD)
        self.control.interrupted, self.control.goal = False, None
        self.hold(replace(stop, pid=asleep or held[0], details={"event": HELD, "asleep": asleep}))
        return True

    def hold(self, stop: Stop, woken: Woken | None = None) -> None:
        for cpu in self.kernel.cpus:
            if cpu.way_out is not None:  # nobody finds a page unfilled that the clock says is filled
                cpu.finish()
        super().hold(stop, woken)

    def woke(self) -> None:
        if self.kernel.sched.host is not None:
            self.kernel.sched.host.again()
            self.control.yields = True

    def _between(self, cpu: Cpu, kind: StopKind, headline: str, event: str) -> Stop:
        """A stop inside what the kernel does."""
        return Stop(kind, self.moment(cpu, event), self.pid_on(cpu), headline)

    def _loaded(self, event: ModuleChange) -> None:
        if event.what == "load" and event.name == self.session.to_load[-1].name:
            module = self.system.modules.find(event.name)
            if module is not None and "init_module" in module.symbols:
                self._begin_at(module.symbols["init_module"])

    def _begin_at(self, address: int) -> None:
        self._first = address
        self.control.set_breakpoints({address})

    def admitted(self, cpu: Cpu, address: int) -> bool:
        if address != self._first:
            return self.admits(cpu, address)
        self._first = None
        self.control.set_breakpoints(set())
        self.hold(self.stop_at(cpu, StopKind.START, ""))
        return False

    def flow(self, cpu: Cpu) -> Hashable:
        kcpu = self.kernel.cpus[cpu.index]
        task = self.kernel.sched.task_of(kcpu)
        if task is not None and cpu.context is task.context:
            return "task", task.pid
        return "cpu", cpu.index, kcpu.kstack.stack_top, kcpu.kstack.depth

    @property
    def running_cpu(self) -> Cpu:
        return self.kernel.this_cpu.vcpu

    def root_of(self, pid: int, cpu: int) -> int | None:
        if not pid:
            return self.kernel.tables.cr3(self.kernel.tables.kernel_pgd)
        task = self.kernel.tasks.get(pid)
        return None if task is None or task.mm is None else task.mm.cr3

    def follow_roots(self, tell: Callable[[], None] | None) -> bool:
        self.kernel.mmu.switched = tell
        return True

    def renew_views(self) -> None:
        kernel = self.kernel
        for each in (kernel.tables, kernel.memmap, kernel.page_ext, kernel.desc):
            each.renew_views()

    def pid_on(self, cpu: Cpu) -> int:
        task = self.kernel.sched.task_of(self.kernel.cpus[cpu.index])
        return 0 if task is None else task.pid

    def process_on(self, cpu: Cpu) -> int:
        task = self.kernel.sched.task_of(self.kernel.cpus[cpu.index])
        return 0 if task is None else task.tgid

    def _killed(self, event: Killed) -> None:
        """The task is still whole: the last place at which it can be looked at."""
        cpu = self.machine.cpus[event.cpu]
        words = f"task {event.pid} is about to die of signal {event.signal}"
        details = {"event": "killed", "pid": event.pid, "signal": event.signal}
        self.hold(replace(self._between(cpu, StopKind.CATCH, words, DEATH), details=details))

    # -- the kernel's monitor ------------------------------------------------------------------------------------

    def dying(self, cpu: KernelCpu, context: CpuContext, exit_: Exit) -> None:
        where = self.system.symbols.kernel_symbol(exit_.eip)
        self.hold(self._between(cpu.vcpu, StopKind.CATCH, f"kernel code is about to end the run, in {where}", DEATH))

    def wrong(self, cpu: KernelCpu, what: str) -> None:
        self.hold(self._between(cpu.vcpu, StopKind.CATCH, f"kernel code is about to end the run: {what}", DEATH))

    # -- looking -------------------------------------------------------------------------------------------------

    def view_cpu(self, index: int) -> None:
        self.viewed_cpu = index
        self.task = self.kernel.sched.task_of(self.kernel.cpus[index])
        self._context = None

    def view_task(self, pid: int) -> None:
        """Look at a task, whether it runs or waits.  Raises Refused where there is none."""
        task = self.kernel.tasks.get(pid)
        if task is None:
            raise Refused(f"no task {pid}")
        self.task, self.viewed_cpu = task, task.cpu.index
        self._context = None if self.kernel.sched.task_of(task.cpu) is task else task.context

    @property
    def mm(self) -> Mm | None:
        """The address space that is looked at, None for the kernel's own."""
        return self.task.mm if self.task is not None else None

    @property
    def context(self) -> CpuContext:
        return super().context if self._context is None else self._context

    @property
    def cr3(self) -> int:
        if self.mm is not None:
            return self.mm.cr3
        return self.kernel.tables.cr3(self.kernel.tables.kernel_pgd)

    def source_at(self, linear: int) -> Line | None:
        """Of the file that the address is in, without a look at the others."""
        user = linear < PAGE_OFFSET
        tables = self.files.line_tables(self.task, linear) if user else map(self._lines_of, self.system.modules.loaded)
        return next((line for table in tables if (line := table.at(linear)) is not None), None)

    def line_tables(self) -> Iterator[LineTable]:
        """Those of what the task executes, and of the loaded modules."""
        yield from self.files.line_tables(self.task)
        for module in self.system.modules.loaded:
            yield self._lines_of(module)

    def _lines_of(self, module: Module) -> LineTable:
        """Read once; a file without line numbers costs one search."""
        from sandbox.debug.lines import LineTable, has_lines

        key = module.name, module.base
        if key not in self._tables:
            sections = {name: start for name, (start, _) in module.sections.items()}
            self._tables[key] = LineTable(module.file, sections) if has_lines(module.file) else LineTable(b"")
        return self._tables[key]

    def frame_info(self) -> Unwinder | None:
        from sandbox.debug.unwind import FramesOfFiles

        task = self.task
        return None if task is None else FramesOfFiles(lambda linear: self.files.frames(task, linear))

    def address_of(self, name: str) -> int | None:
        if self.task is not None or self.result is not None:
            found = self.files.address(self.task, name)
            if found is not None:
                return found
        for module in reversed(self.system.modules.loaded):
            if name in module.symbols and module.holds(module.symbols[name]):
                return module.symbols[name]
        return self.kernel.image.symbols.get(name, self.system.gate.symbols.get(name))

    def name_of(self, linear: int) -> str:
        if linear >= PAGE_OFFSET:
            name = self._stubs.get(linear) or self.system.symbols.kernel_symbol(linear)
            return "" if name.startswith("0x") else name
        return self.files.name(self.task, linear) if self.task is not None or self.result is not None else ""

    def symbol_names(self) -> list[str]:
        names = [*self.kernel.image.symbols, *self._stubs.values()]
        for module in self.system.modules.loaded:
            names += module.symbols
        return names + (self.files.names(self.task) if self.task is not None or self.result is not None else [])
