"""A kernel on a fresh machine, for as long as something runs on it, and what a run comes to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sandbox.kernel.abi.errno import EBUSY, ENOMEM
from sandbox.kernel.abi.numbers import name_of
from sandbox.kernel.arch.bootdriver import has_boot_init
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.events import TaskChange
from sandbox.kernel.base.tape import NotRepeatable, Tape, TapeEnds
from sandbox.kernel.drivers.console import BytesSource, CaptureSink, Sink, Source
from sandbox.kernel.drivers.hostterm import HostTerminal
from sandbox.kernel.fs.namespace import FileSystem
from sandbox.kernel.main import start_kernel
from sandbox.kernel.mm.isahole import HOLE
from sandbox.kernel.mm.kmap import Kmap
from sandbox.kernel.mm.page_kva import PageKva
from sandbox.kernel.module.entry import LeftWindow
from sandbox.kernel.module.hypercall import GuestKernelBug, NoSuchExport
from sandbox.kernel.module.loader import InitFailed, ModuleError
from sandbox.kernel.process.kthread import run_kthread
from sandbox.kernel.task.limits import Deadlock, Interrupted, LimitReached
from sandbox.machine.machine import Machine
from sandbox.records import asdict, dataclass, field, replace
from sandbox.runner.followed import Followed
from sandbox.runner.machine import build_machine
from sandbox.runner.result import Result, Summary
from sandbox.runner.shares import Shares, measure
from sandbox.runner.target import ModuleFile
from sandbox.x86.errors import SandboxError

if TYPE_CHECKING:
    from sandbox.sanitize.kernel import KernelSanitizer

OUR_FAULT = 3
LEAK_LINES = 8
TAINTED = "A module has run in ring 0"
CONFLICT = "A card answers from 14 to 16 MB where the kernel believes in RAM (isa_hole=conflict): memexclude=14m-16m."
GUEST_ENDS = (Deadlock, LimitReached, Interrupted, GuestKernelBug, LeftWindow, NoSuchExport, TapeEnds, NotRepeatable)
"""What ends a run for the guest's own sake; the result tells of it."""


@dataclass(slots=True)
class Streams:
    """Where standard input comes from and output goes; captured when no sink is given."""

    source: Source = field(default_factory=BytesSource)
    stdout: Sink | None = None
    stderr: Sink | None = None
    terminals: tuple[int | None, ...] = (None, None, None)
    terminal: HostTerminal | None = None
    """A terminal that the machine gets for itself while it runs, for the streams that ``terminals`` names."""
    tape: Tape | None = None
    """Keeps what comes from outside, for who goes through the run again."""


def file_system(config: KernelConfig, streams: Streams | None = None) -> FileSystem:
    """The files of a machine before it has a clock.  Raises ConfigurationError."""
    return FileSystem(
        config.root, writable=config.writable, files=config.files, now=lambda: config.start, latest=config.latest,
        tape=None if streams is None else streams.tape,
    )  # fmt: skip


class MachineSession(Followed):
    """Building it boots the machine.  ``modules`` are loaded by ``load_modules``, in order; boot has
    called the ``boot_init`` of those that have one.

    Raises ConfigurationError for an impossible machine.
    """

    def __init__(
        self, config: KernelConfig, files: FileSystem, streams: Streams | None, modules: Sequence[ModuleFile] = ()
    ) -> None:
        self._shares: Shares | None = None
        self._began = time.perf_counter()
        drivers = tuple((each.name, each.data) for each in modules if has_boot_init(each.data))
        self.config = config = replace(config, boot_drivers=(*config.boot_drivers, *drivers))
        self.streams = streams if streams is not None else Streams()
        self.captured = CaptureSink(), CaptureSink()
        self.to_load = list(modules)
        self.machine = build_machine(config)
        sanitizer: KernelSanitizer | None = None
        try:
            self.before_boot(self.machine)
            if config.sanitize:
                sanitizer = _sanitizer(self.machine, config)
                self.sanitize_by(sanitizer)
            self.system = start_kernel(self.machine, config, files, self.streams.tape)
        except BaseException:
            self.machine.close()
            raise
        if sanitizer is not None:
            sanitizer.connect(self.system)
        self.kernel, self.modules = self.system.kernel, self.system.modules
        if self.streams.tape is not None:
            self.kernel.sched.steady = config.clock == "host"
            self.kernel.bus.subscribe(self._read_symbols, TaskChange)

    def _read_symbols(self, event: TaskChange) -> None:
        """A program's file is read for its symbols when it begins, whoever asks for them later: on the tape once."""
        task = self.kernel.tasks.get(event.pid)
        if event.what == "exec" and task is not None:
            self.system.symbols.program_symbols(task)

    def before_boot(self, machine: Machine) -> None:
        """The machine is built, and its kernel has not stored anything yet."""

    @classmethod
    def idle(cls, config: KernelConfig) -> Self:
        """A kernel that runs nothing."""
        return cls(config, file_system(config), None)

    def load_modules(self) -> None:
        """Load what is to be loaded.  Raises ImageError, ModuleError, and what a module's code comes to."""
        load = self.modules.load
        for each in self.to_load:
            run_kthread(self.kernel, "insmod", partial(load, each.name, each.data, each.options))

    def unload_modules(self) -> None:
        """Unload what ``load_modules`` brought, the last one first.  Raises ModuleError for one that is in use."""
        for each in reversed(self.to_load):
            if self.modules.find(each.name) is not None:
                run_kthread(self.kernel, "rmmod", partial(self.modules.unload, each.name))

    def guard(self, result: Result, work: Callable[[], object]) -> bool:
        """Run a part of the guest's life; False when it ended there, and the result says why."""
        try:
            work()
        except InitFailed as error:
            result.error, result.status = error.summary, abs(error.value) & 0xFF or 1
        except GUEST_ENDS as error:
            result.error, result.detail = error.summary, error.detail
            result.interrupted = isinstance(error, Interrupted)
        except ModuleError as error:
            if error.errno not in (EBUSY, ENOMEM):
                raise
            result.error, result.detail = error.summary, error.detail
        except SandboxError as error:
            if error.exit_status != OUR_FAULT or not self._excuse():
                raise
            result.error, result.detail = error.summary, f"{error.detail}\n{self._excuse()}".lstrip()
        else:
            return True
        return False

    def _excuse(self) -> str:
        """Why what the kernel relies on may be damaged through no fault of ours; empty when nothing explains it."""
        kernel = self.kernel
        if self.modules.tainted:
            return f"{TAINTED} ({', '.join(self.modules.tainted)}); it may have damaged what the kernel relies on."
        hole = self.config.policies["isa_hole"] == "conflict"
        if hole and any(zone.has(pfn) for zone in kernel.pgdat.zones for pfn in HOLE):
            return CONFLICT
        return ""

    def held(self) -> dict[str, int]:
        """What modules hold now, while no task runs."""
        kernel = self.kernel
        return {
            "frames": kernel.pgdat.total_frames - kernel.pgdat.free_frames - self._nobodys(),
            "pieces of kmalloc": kernel.kmalloc.live,
            "areas": sum(area.kind not in ("mem_map", "kernel stacks") for area in kernel.vmalloc.areas),
            "devices": self.system.devices.live,
            "interrupt handlers": len(kernel.irq.handlers),
            **self.system.gate.owners.counted(),
        }

    def _nobodys(self) -> int:
        """Frames that no module holds: tables, mem_map, files' pages, and what is kept for the next one who asks.

        Those of kmalloc are reported by the piece.
        """
        kernel = self.kernel
        kept = kernel.table_frames.held + kernel.stacks.spare_frames + kernel.model.added_frames
        return kept + len(list(kernel.pagecache.frames())) + kernel.kmalloc.spare_pages + kernel.kmalloc.lost

    def tell_leaks(self, result: Result, before: dict[str, int], after: dict[str, int]) -> None:
        """Modules are gone and something of theirs is not: the result's error, which names those who asked for it."""
        left = {what: after[what] - count for what, count in before.items() if after[what] > count}
        if left:
            held = self.system.gate.owners.held(list(left))
            names = list(dict.fromkeys(each.module.name for each in held)) or self.modules.tainted
            counts = ", ".join(f"{count} {what}" for what, count in left.items())
            result.error = f"{', '.join(names)}: left behind: {counts}"
            lines = [each.line() for each in held] + self.kernel.vmalloc.report().splitlines()
            result.detail = "\n".join(lines[:LEAK_LINES] + ["…"] * (len(lines) > LEAK_LINES))

    def complete(self, result: Result) -> Result:
        """Put what was captured and counted into a result."""
        result.stdout, result.stderr = bytes(self.captured[0].data), bytes(self.captured[1].data)
        result.deaths = list(self.kernel.signal_delivery.deaths)
        self.put_reports(result)
        result.summary = self.summary()
        return result

    def summary(self) -> Summary:
        """Counts so far."""
        kernel = self.kernel
        return Summary(
            blocks=kernel.clock.blocks,
            page_faults=kernel.stats.page_faults,
            faults_by_kind=_falling(kernel.stats.faults),
            cow_copies=kernel.stats.cow_copies,
            cow_reuses=kernel.stats.cow_reuses,
            system_calls=kernel.stats.system_calls,
            calls_by_name=_falling({name_of(number): count for number, count in kernel.stats.calls.items()}),
            switches=kernel.sched.switches,
            frames_allocated=kernel.stats.frames_allocated,
            frames_free=kernel.pgdat.free_frames,
            frames_total=kernel.pgdat.total_frames,
            frames_lost=self._lost(),
            single_share=round(100 * kernel.pgdat.requests.single_share),
            single_share_outside=round(100 * kernel.pgdat.requests.outside_share),
            list_hits=round(100 * kernel.pgdat.requests.hit_rate),
            zone_locks=sum(zone.locks for zone in kernel.pgdat.zones),
            gate_calls=self.system.gate.calls,
            tlb_flushes=kernel.tlb.counters.pages + kernel.tlb.counters.spaces + kernel.tlb.counters.everything,
            shootdowns=kernel.tlb.counters.interrupts,
            kmap_atomic=asdict(kernel.highmem.windows.counters),
            kva=_pool_counts(kernel.kva),
            kmap=_pool_counts(kernel.kmap),
            high_pages=asdict(kernel.highmem.counters),
            bytes_by_guest=kernel.stats.bytes_by_guest,
            bytes_by_host=kernel.memory.host_bytes(),
            seconds=time.perf_counter() - self._began,
            engine_seconds=self._engine_seconds(),
            tlb=self.tlb_counters(),
        )

    def _lost(self) -> int:
        """Frames that programs had which are gone; 0 where somebody may still hold some."""
        kernel = self.kernel
        if self.modules.tainted or any(task.runs for task in kernel.tasks.values()):
            return 0
        return self.held()["frames"] + kernel.table_frames.held - kernel.kva.counters.tables

    def now(self) -> int:
        return self.kernel.clock.now

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _sanitizer(machine: Machine, config: KernelConfig) -> KernelSanitizer:
    from sandbox.sanitize.kernel import KernelSanitizer

    return KernelSanitizer(machine, config.paging)


def _falling(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def _pool_counts(pool: PageKva | Kmap) -> dict[str, int]:
    """A pool's counters, how many pages it can hold, and how often a page had an address already, in percent."""
    counters = pool.counters
    asked = counters.hits + counters.misses
    rate = round(100 * counters.hits / asked) if asked else 0
    return {**asdict(counters), "hit_rate": rate, "capacity": pool.capacity}
