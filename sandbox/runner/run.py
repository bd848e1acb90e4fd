"""An image plus a configuration becomes a running machine and a ``Result``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from greenlet import greenlet

from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.events import PageFault
from sandbox.kernel.process.exec import do_execve
from sandbox.kernel.process.exit import do_exit
from sandbox.kernel.process.fork import new_task
from sandbox.kernel.process.init import start_shell
from sandbox.kernel.process.stdio import open_streams
from sandbox.kernel.task.task import Task, TaskExit
from sandbox.machine.events import Event
from sandbox.runner.modules import ModuleSession
from sandbox.runner.result import Result
from sandbox.runner.session import MachineSession, Streams, file_system
from sandbox.runner.target import ModuleFile, Target
from sandbox.x86.errors import ConfigurationError, SandboxError

PROGRAM_FOLDER = "/bin"


class BadProgram(SandboxError):
    """The program cannot be executed."""

    exit_status = 2


class Session(MachineSession):
    """One program on one fresh machine.

    The program is put at ``name``, under /bin if that is no absolute path.

    Building it boots the machine and loads the program; ``finish`` runs it to its end.  Between the two, readers
    may subscribe to ``kernel.bus``, and the machine may be looked at.
    Raises ConfigurationError for an impossible machine and BadProgram for a file that cannot be executed.
    """

    def __init__(
        self,
        name: str,
        program: bytes,
        arguments: Sequence[str],
        config: KernelConfig,
        streams: Streams | None = None,
        modules: Sequence[ModuleFile] = (),
    ) -> None:
        path = name if name.startswith("/") else f"{PROGRAM_FOLDER}/{name}"
        files = file_system(config, streams)
        if path in config.files:
            raise ConfigurationError(f"a file is given at {path}, where the program itself lies")
        inode = files.add(path, program)
        super().__init__(config, files, streams, modules)
        self.kernel.log.console = self.streams.stderr or self.captured[1]
        self.path = path
        self._inode = inode
        self._arguments = [path, *arguments]
        self.task: Task | None = None
        self.on_loaded: Callable[[Task], None] = lambda task: None
        """Called once the program is in memory, before its first instruction."""

    def load(self) -> Task:
        """Load the modules and execute the program as the first task; it has not run an instruction yet."""
        if self.task is None:
            streams = self.streams
            kernel = self.kernel
            shell = start_shell(kernel)
            self.load_modules()
            files = open_streams(
                kernel,
                streams.source,
                streams.stdout or self.captured[0],
                streams.stderr or self.captured[1],
                streams.terminals,
                streams.terminal,
            )
            task = kernel.tasks.program = new_task(kernel, shell, "init", None, files)
            if kernel.jobctl.tty is not None:
                kernel.jobctl.tty.session, kernel.jobctl.tty.pgrp = task.sid, task.pgid
            kernel.smp.this_cpu = task.cpu
            task.cpu.kstack = task.kstack
            encoded = [each.encode("utf-8", "surrogateescape") for each in self._arguments]
            environment = [each.encode() for each in self.config.environment]
            kernel.stats.preparing = True
            try:
                do_execve(kernel, task, self._inode, self.path, encoded, environment)
            except KernelError as error:
                cause = error.__cause__
                if isinstance(cause, SandboxError):
                    raise BadProgram(cause.summary, cause.detail) from error
                raise BadProgram(f"{self.path}: cannot be executed: {error}") from error
            except TaskExit as leaving:
                status = leaving.status
                task.greenlet = greenlet(lambda: do_exit(kernel, task, status))
            finally:
                kernel.stats.preparing = False
            kernel.mmu.switch_mm(task.cpu, None)
            kernel.sched.enqueue(task)
            self.task = task
        return self.task

    def finish(self) -> Result:
        """Run to the end, whatever that is.  Raises SandboxError only for bad files and faults of our own."""
        result = Result()
        before = self.held()
        if not self.guard(result, self.load):
            return self.complete(result)
        task = self.load()
        self.on_loaded(task)
        with self.streams.terminal or nullcontext():
            ended = self.guard(result, self.kernel.run)
        task = self.kernel.tasks.program or task  # another thread has taken its place if that executed a program
        result.status, result.signal = task.status >> 8 & 0xFF, task.status & 0x7F
        if task.mm is not None and not result.error:
            result.error = "the program did not end"
        elif ended and self.guard(result, self.unload_modules) and self.modules.tainted and not self.modules.loaded:
            self.tell_leaks(result, before, self.held())
        return self.complete(result)


def run_program(
    name: str,
    program: bytes,
    arguments: Sequence[str] = (),
    config: KernelConfig | None = None,
    streams: Streams | None = None,
    readers: Sequence[tuple[Callable[[Event], None], tuple[type[Event], ...]]] = (),
    record_faults: bool = False,
) -> Result:
    """Run one program on a machine of its own; the machine is gone afterwards.

    ``readers`` are subscribed to the event stream; ``record_faults`` fills the result's list of faults.
    """
    with Session(name, program, arguments, config or KernelConfig(), streams) as session:
        faults: list[PageFault] = []
        if record_faults:
            session.kernel.bus.subscribe(faults.append, PageFault)
        for reader, kinds in readers:
            session.kernel.bus.subscribe(reader, *kinds)
        result = session.finish()
        result.faults = faults
        return result


def open_session(target: Target, config: KernelConfig, streams: Streams | None = None) -> Session | ModuleSession:
    """A session for a program or a module with the modules that it needs.

    Raises ConfigurationError and BadProgram.
    """
    if target.kind == "module":
        module = ModuleFile(target.name, target.data, tuple(target.arguments))
        return ModuleSession(module, config, streams, target.modules)
    return Session(target.name, target.data, target.arguments, config, streams, target.modules)


def run_target(target: Target, config: KernelConfig, streams: Streams | None = None) -> Result:
    """Run a program or a module on a machine of its own, its faults recorded."""
    with open_session(target, config, streams) as session:
        faults: list[PageFault] = []
        session.kernel.bus.subscribe(faults.append, PageFault)
        result = session.finish()
        result.faults = faults
        return result
