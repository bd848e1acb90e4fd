"""An image plus a configuration becomes a running machine and a ``Result``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.abi.numbers import name_of
from sandbox.kernel.config import KernelConfig
from sandbox.kernel.events import PageFault
from sandbox.kernel.exec import do_execve
from sandbox.kernel.fork import new_task
from sandbox.kernel.fs.console import BytesSource, CaptureSink, Sink, Source, connect, standard_streams
from sandbox.kernel.fs.mount import FileSystem
from sandbox.kernel.hostterm import HostTerminal
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.sched import Deadlock, Interrupted, LimitReached
from sandbox.kernel.task import Task, TaskExit
from sandbox.machine.events import Event
from sandbox.machine.machine import Machine
from sandbox.runner.result import Result, Summary
from sandbox.runner.shares import Shares, measure
from sandbox.x86.errors import SandboxError

PROGRAM_FOLDER = "/bin"


class BadProgram(SandboxError):
    """The program cannot be executed."""

    exit_status = 2


@dataclass(slots=True)
class Streams:
    """Where standard input comes from and output goes; captured when no sink is given."""

    source: Source = field(default_factory=BytesSource)
    stdout: Sink | None = None
    stderr: Sink | None = None
    terminals: tuple[int | None, ...] = (None, None, None)
    terminal: HostTerminal | None = None
    """A terminal that the machine gets for itself while it runs, for the streams that ``terminals`` names."""


class Session:
    """One program on one fresh machine.

    The program is put at ``name``, under /bin if that is no absolute path.

    Building it boots the machine and loads the program; ``finish`` runs it to its end.  Between the two, readers
    may subscribe to ``kernel.bus``, and the machine may be looked at.
    Raises ConfigurationError for an impossible machine and BadProgram for a file that cannot be executed.
    """

    def __init__(
        self, name: str, program: bytes, arguments: Sequence[str], config: KernelConfig, streams: Streams | None = None
    ) -> None:
        self._shares: Shares | None = None
        self._began = time.perf_counter()
        self.config = config
        self._streams = streams if streams is not None else Streams()
        self._captured = CaptureSink(), CaptureSink()
        self.machine = Machine(config.ram, config.cpus, config.holes)
        path = name if name.startswith("/") else f"{PROGRAM_FOLDER}/{name}"
        files = FileSystem(config.root, writable=config.writable, files=config.files, seed=config.seed)
        inode = files.add(path, program)
        self.kernel = Kernel(self.machine, config, files)
        self.path = path
        self._inode = inode
        self._arguments = [path, *arguments]
        self.task: Task | None = None

    def load(self) -> Task:
        """Execute the program as the first task; it has not run an instruction yet."""
        if self.task is None:
            streams = self._streams
            consoles = standard_streams(
                streams.source,
                streams.stdout or self._captured[0],
                streams.stderr or self._captured[1],
                streams.terminals,
            )
            kernel = self.kernel
            task = new_task(kernel, None, "init", None, connect(kernel, consoles, streams.terminal))
            if kernel.tty is not None:
                kernel.tty.session, kernel.tty.pgrp = task.sid, task.pgid
            kernel.here = task.cpu
            task.cpu.flow = task.flow
            encoded = [each.encode("utf-8", "surrogateescape") for each in self._arguments]
            environment = [each.encode() for each in self.config.environment]
            try:
                do_execve(kernel, task, self._inode, self.path, encoded, environment)
            except KernelError as error:
                cause = error.__cause__
                if isinstance(cause, SandboxError):
                    raise BadProgram(cause.summary, cause.detail) from error
                raise BadProgram(f"{self.path}: cannot be executed: {error}") from error
            except TaskExit as leaving:
                raise BadProgram(f"{self.path}: {task.report.splitlines()[0]}") from leaving
            kernel.activate(task.cpu, None)
            kernel.sched.enqueue(task)
            self.task = task
        return self.task

    def finish(self) -> Result:
        """Run to the end, whatever that is.  Raises SandboxError only for faults of our own (exit status 3)."""
        task = self.load()
        result = Result()
        try:
            with self._streams.terminal or nullcontext():
                self.kernel.run()
        except (Deadlock, LimitReached, Interrupted) as error:
            result.error, result.detail = error.summary, error.detail
        result.status, result.signal = task.status >> 8 & 0xFF, task.status & 0x7F
        if task.mm is not None and not result.error:
            result.error = "the program did not end"
        result.stdout, result.stderr = bytes(self._captured[0].data), bytes(self._captured[1].data)
        result.deaths = list(self.kernel.deaths)
        result.summary = self.summary()
        return result

    def summary(self) -> Summary:
        """Counts so far."""
        kernel = self.kernel
        return Summary(
            blocks=kernel.sched.now,
            page_faults=kernel.traps.faults,
            faults_by_kind=_falling(kernel.counters.faults),
            cow_copies=kernel.counters.cow_copies,
            cow_reuses=kernel.counters.cow_reuses,
            system_calls=kernel.counters.system_calls,
            calls_by_name=_falling({name_of(number): count for number, count in kernel.counters.calls.items()}),
            switches=kernel.sched.switches,
            frames_allocated=kernel.counters.frames_allocated,
            frames_free=kernel.frames.free_frames,
            frames_total=kernel.frames.total_frames,
            tlb_flushes=kernel.tlb.counters.pages + kernel.tlb.counters.spaces + kernel.tlb.counters.everything,
            shootdowns=kernel.tlb.counters.interrupts,
            bytes_by_guest=kernel.counters.bytes_by_guest,
            bytes_by_host=kernel.memory.host_bytes(),
            seconds=time.perf_counter() - self._began,
            engine_seconds=self._engine_seconds(),
        )

    def measure(self) -> None:
        """Let the summary tell what of the time is the engine's."""
        self._shares = Shares()
        measure(self.kernel, self._shares)

    def _engine_seconds(self) -> dict[str, float]:
        shares = self._shares
        return {} if shares is None else {"guest": shares.ring3, "kernel routines": shares.ring0}

    def close(self) -> None:
        """Release the machine and what its tasks hold."""
        self.kernel.close()
        self.machine.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _falling(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


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
