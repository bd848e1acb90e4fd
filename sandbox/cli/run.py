"""``sandbox run``: an image on a fresh machine."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.cli.guest_words import add_guest_arguments, refuse_unused
from sandbox.cli.interrupts import Interrupts
from sandbox.cli.machine_options import add_machine_options, machine_config
from sandbox.cli.streams import BAD_INPUT, say, tell_lost

if TYPE_CHECKING:
    from sandbox.kernel.base.config import KernelConfig
    from sandbox.kernel.kernel import Kernel
    from sandbox.machine.devices.framebuffer import FrameBuffer
    from sandbox.machine.machine import Machine
    from sandbox.runner.corefile import CoreFiles
    from sandbox.runner.result import Result, Summary
    from sandbox.runner.session import Streams
    from sandbox.runner.target import Target
    from sandbox.sanitize.report import StaleReport

TRACE_KINDS = ("faults", "calls", "tasks", "tlb", "races", "map", "alloc", "modules", "ports", "walk")


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser("run", help=title, description=f"{title.capitalize()}.")
    parser.add_argument("image", help="manifest or its folder, ELF file, or source (.S, .asm, .c)")
    add_guest_arguments(parser)
    parser.add_argument(
        "--trace", action="append", default=[], metavar="KINDS", help=f"comma-separated: {', '.join(TRACE_KINDS)}"
    )
    parser.add_argument("--strace", action="store_true", help="system calls and signals, as strace shows them")
    parser.add_argument(
        "--screen", metavar="FILE", help="the picture in the frame buffer at the end, as PGM; - for letters"
    )
    parser.add_argument(
        "--core", metavar="FILE", help="a core file of a process that a signal ends, for gdb (%%p in it: the pid)"
    )
    parser.add_argument("--stats", action="store_true", help="counts and times at the end")
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    parser.add_argument("--status", action="store_true", help="exit with the guest's own status (128 + signal)")
    parser.add_argument(
        "--seeds", metavar="A-B", help="run under each of these seeds, up to the first that ends otherwise"
    )
    add_machine_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from sandbox.kernel.drivers.console import BytesSource, HostSink, HostSource
    from sandbox.kernel.drivers.hostterm import HostTerminal
    from sandbox.runner.session import Streams
    from sandbox.runner.target import is_recording, resolve

    if is_recording(options.image):
        return _run_recording(options)
    target = resolve(options.image, options.arguments)
    refuse_unused(options, target.kind, options.image)
    if target.kind == "rom":
        from sandbox.cli.rom import run_rom_image

        return run_rom_image(target, options)
    if options.seeds is not None:
        from sandbox.cli.seeds import run_seeds

        refuse_unused(options, "seeds", "")
        return run_seeds(target, options)
    trace_kinds(options.trace)
    config = machine_config(options, target)
    if options.json:
        streams = Streams(HostSource(0) if not sys.stdin.isatty() else BytesSource())
    else:
        terminals = tuple(number if os.isatty(number) else None for number in range(3))
        own = HostTerminal(0) if terminals[0] is not None and terminals[1] is not None else None
        streams = Streams(HostSource(0), HostSink(1), HostSink(2), terminals, own)
        config.limit_waits = options.time_limit is not None
    if target.manifest is not None and target.manifest.stdin:
        streams.source = BytesSource(target.manifest.stdin.encode())
    return run_session(target, config, streams, options)


def _run_recording(options: argparse.Namespace) -> int:
    """The run that a file keeps, once more."""
    from sandbox.cli.rom import run_rom_session
    from sandbox.runner.outside import recorded
    from sandbox.runner.recording import load
    from sandbox.runner.rom import RomConfig

    refuse_unused(options, "recording", options.image)
    made = load(options.image)
    refuse_unused(options, made.target.kind, options.image)
    streams = recorded(made, options.engine).streams
    if options.json:
        streams.stdout = streams.stderr = None
    if isinstance(made.config, RomConfig):
        return run_rom_session(made.target, made.config, streams.stdout, options, made.check)
    return run_session(made.target, made.config, streams, options, made.check)


def run_session(
    target: Target,
    config: KernelConfig,
    streams: Streams,
    options: argparse.Namespace,
    ended: Callable[[Result], None] = lambda result: None,
) -> int:
    """Run a program or a module and tell what it came to; ``ended`` gets that.  The exit status."""
    from sandbox.runner.run import open_session

    kinds = trace_kinds(options.trace)
    recorded: list[dict[str, Any]] = []
    with open_session(target, config, streams) as session:
        _subscribe(session, kinds, options.strace, recorded if options.json else None)
        if "walk" in kinds:
            session.trace_walks()
        cores = None if options.core is None else _cores_of(session.kernel, options.core)
        screen = None if options.screen is None else _screen_of(session.machine, options.screen)
        if options.stats:
            session.measure()
        interrupts = Interrupts()
        interrupts.watch(session.kernel.sched)
        terminal = streams.terminal
        if terminal is not None:
            signal.signal(signal.SIGCONT, lambda *_: terminal.enter())
        result = session.finish()
        _tell_of_missed(config.races or (), session.kernel.races.passed)
        if screen is not None:
            _show_screen(screen, options.screen)
    ended(result)
    if options.json:
        import json

        print(
            json.dumps(
                {**result.to_dict(), "events": recorded} if kinds or options.strace else result.to_dict(), indent=2
            )
        )
    else:
        with contextlib.suppress(BrokenPipeError):  # nobody reads it; the status tells
            _narrate(result, options.stats)
    if cores is not None:
        _tell_cores(cores)
    if result.interrupted:
        return interrupts.status
    lost = tell_lost((streams.stdout, streams.stderr))
    if options.status and not result.error and not result.sanitizer:
        return 128 + result.signal if result.signal else result.status
    if not result.passed:
        return 1
    return BAD_INPUT if lost else 0


def _cores_of(kernel: Kernel, place: str) -> CoreFiles:
    """Who writes them.  Raises ConfigurationError, before anything runs."""
    from sandbox.cli.places import check_place
    from sandbox.runner.corefile import CoreFiles

    check_place("--core", place)
    return CoreFiles(kernel, place)


def _tell_cores(cores: CoreFiles) -> None:
    """Where they are.  Raises ConfigurationError when one could not be written."""
    from sandbox.x86.errors import ConfigurationError

    for pid, comm, path in cores.written:
        say(f"sandbox: core of task {pid} ({comm}) in {path}")
    if cores.error:
        raise ConfigurationError(f"--core {cores.error}")


def _screen_of(machine: Machine, place: str) -> FrameBuffer:
    """The frame buffer whose picture ``place`` will get.  Raises ConfigurationError, before anything runs."""
    from sandbox.cli.places import check_place
    from sandbox.machine.devices.framebuffer import FrameBuffer
    from sandbox.x86.errors import ConfigurationError

    found = [device for _, device in machine.board.windows if isinstance(device, FrameBuffer)]
    if not found:
        raise ConfigurationError("--screen: the machine has no frame buffer", "plug one in with --device framebuffer")
    if place != "-":
        check_place("--screen", place)
    return found[0]


def _show_screen(screen: FrameBuffer, place: str) -> None:
    from sandbox.x86.errors import ConfigurationError

    if place == "-":
        print(screen.text())
        return
    try:
        Path(place).write_bytes(screen.pgm())
    except OSError as error:
        raise ConfigurationError(f"--screen {place}: {error.strerror}") from error


def trace_kinds(texts: list[str], known: tuple[str, ...] = TRACE_KINDS) -> tuple[str, ...]:
    """What all ``--trace`` together ask for, each once.  Raises ConfigurationError."""
    from sandbox.x86.errors import ConfigurationError

    kinds = tuple(dict.fromkeys(word for text in texts for word in text.split(",") if word))
    for kind in kinds:
        if kind not in known:
            raise ConfigurationError(f"--trace {kind}: known are {', '.join(known)}")
    return kinds


def _subscribe(session: Any, kinds: tuple[str, ...], strace: bool, recorded: list[dict[str, Any]] | None) -> None:
    if not kinds and not strace:
        return
    from sandbox.cli.colour import Colour, columns_of
    from sandbox.report.trace import KINDS, event_line, fault_header
    from sandbox.report.width import fit_call

    bus, columns = session.kernel.bus, columns_of(sys.stderr)
    calls = None
    if strace:
        from sandbox.report.strace import Strace

        def line(text: str) -> None:
            if recorded is None:
                print(fit_call(text, columns), file=sys.stderr)
            else:
                recorded.append({"event": "strace", "time": session.kernel.clock.now, "line": text})

        calls = Strace(session.kernel, line)
    if not kinds:
        return
    wanted = tuple({each for kind in kinds for each in KINDS[kind]})
    if recorded is not None:
        bus.subscribe(lambda event: recorded.append(event.to_dict()), *wanted)
        return
    paint = Colour(sys.stderr)
    if "faults" in kinds:
        print(paint("bold", fault_header(columns)), file=sys.stderr)

    def show(event: Any) -> None:
        if calls is not None:
            calls.interrupt()
        print(fit_call(event_line(event, paint, columns), columns), file=sys.stderr)

    bus.subscribe(show, *wanted)


def _tell_of_missed(races: Iterable[tuple[str, int]], passed: Mapping[str, int]) -> None:
    """Races that were asked for at a passage that never came."""
    for name, times in races:
        if passed.get(name, 0) < times:
            say(f"sandbox: --race {name}:{times}: the run came there {passed.get(name, 0)} times")


def _narrate(result: Result, stats: bool) -> None:
    """What a person wants to know and the program did not print."""
    from sandbox.cli.colour import print_lines
    from sandbox.kernel.abi.signals import name_of as signal_name

    sys.stdout.flush()
    if result.error or result.signal:
        print_lines([f"sandbox: {result.headline()}"], sys.stderr, "red")
        print_lines(result.detail.splitlines(), sys.stderr)
        if result.signal and result.deaths:
            pid, comm, number, report = result.deaths[-1]
            print(f"task {pid} ({comm}), {signal_name(number)}:", file=sys.stderr)
            print_lines(report.splitlines(), sys.stderr)
    elif result.status:
        print_lines([f"sandbox: {result.headline()}"], sys.stderr, "yellow")
    tell_reports(result.sanitizer)
    if stats:
        print_stats(_stat_rows(result.summary))


def print_stats(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values on standard error; a value that is too long for its terminal goes on below itself."""
    from sandbox.cli.colour import Colour, columns_of
    from sandbox.report.width import wrapped

    paint, room = Colour(sys.stderr), columns_of(sys.stderr) - 15
    for name, value in rows:
        if value:
            first, *rest = wrapped(value, room)
            print(f"{paint('bold', f'{name:14}')} {first}", file=sys.stderr)
            for line in rest:
                print(" " * 15 + line.lstrip(), file=sys.stderr)


def _stat_rows(summary: Summary) -> list[tuple[str, str]]:
    from sandbox.report.highmem import highmem_rows

    frames = f"{summary.frames_allocated:,} allocated, {summary.frames_free:,} of {summary.frames_total:,} free"
    allocator = (
        f"{summary.single_share} % of requests for one frame ({summary.single_share_outside} % outside of "
        f"interrupts), {summary.list_hits} % of these from the CPU's list; a zone's lock taken: {summary.zone_locks:,}"
    )
    stored = ", ".join(f"{size:,} {why}" for why, size in summary.bytes_by_host.items()) + " by the host"
    return [
        ("time", f"{summary.seconds * 1000:.1f} ms of host time, {summary.blocks:,} blocks"),
        ("", _shares(summary)),
        ("page faults", f"{summary.page_faults:,}{_counts(summary.faults_by_kind)}"),
        ("copy on write", f"{summary.cow_copies:,} copied, {summary.cow_reuses:,} reused"),
        ("system calls", f"{summary.system_calls:,}{_counts(summary.calls_by_name)}"),
        ("task switches", f"{summary.switches:,}"),
        ("frames", frames),
        ("allocator", allocator),
        ("TLB", f"{summary.tlb_flushes:,} invalidations, {summary.shootdowns:,} interrupts to other CPUs"),
        *highmem_rows(summary),
        *(("", tlb_text(number, counts)) for number, counts in enumerate(summary.tlb)),
        ("bytes moved", f"{summary.bytes_by_guest:,} by guest code"),
        ("bytes stored", stored),
    ]


def tell_reports(reports: list[StaleReport]) -> None:
    """What a sanitizer found, on standard error."""
    from sandbox.cli.colour import print_lines

    for each in reports:
        first, *rest = each.lines()
        print_lines([f"sandbox: {first}"], sys.stderr, "red")
        print_lines(rest, sys.stderr)


def tlb_text(cpu: int, counts: dict[str, int]) -> str:
    """What a CPU's TLB did, for ``--stats``."""
    return f"CPU {cpu}: " + ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def _counts(counts: dict[str, int]) -> str:
    """The largest ten behind a colon; nothing for none."""
    shown = [f"{count:,} {name}" for name, count in list(counts.items())[:10]]
    return ": " + ", ".join(shown + (["…"] if len(counts) > 10 else [])) if shown else ""


def _shares(summary: Summary) -> str:
    """What the time went to."""
    if not summary.engine_seconds or not summary.seconds:
        return ""
    parts = {**summary.engine_seconds, "Python": summary.seconds - sum(summary.engine_seconds.values())}
    return ", ".join(f"{100 * part / summary.seconds:.0f} % {name}" for name, part in parts.items())
