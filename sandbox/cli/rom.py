"""``sandbox run`` and ``sandbox explain`` for ROM images."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sandbox.cli.colour import columns_of, print_lines
from sandbox.report.width import wrapped
from sandbox.runner.target import Target

if TYPE_CHECKING:
    from sandbox.runner.result import Result
    from sandbox.runner.rom import RomConfig, RomSession


TRACE_KINDS = ("faults", "ports", "walk")


def config_of(target: Target, options: argparse.Namespace) -> RomConfig:
    """The bare machine for an image and these options.  Raises ConfigurationError."""
    from sandbox.cli.machine_options import parse_count
    from sandbox.runner.rom import rom_config
    from sandbox.x86.errors import ConfigurationError

    if options.time_limit is not None and not 0 <= options.time_limit < float("inf"):
        raise ConfigurationError(f"a limit of {options.time_limit} seconds: 0 is for none")
    return rom_config(
        target,
        ram=parse_count(options.ram),
        cpus=options.cpus,
        seed=options.seed,
        switches=frozenset(options.switches) or None,
        sanitize=frozenset(options.sanitize) or None,
        block_limit=parse_count(options.limit),
        time_limit=options.time_limit,
    )


def run_rom_image(target: Target, options: argparse.Namespace) -> int:
    """Run a flat image on the bare machine; its serial port is standard output."""
    from sandbox.kernel.drivers.console import HostSink

    return run_rom_session(target, config_of(target, options), None if options.json else HostSink(1), options)


def run_rom_session(
    target: Target,
    config: RomConfig,
    sink: Callable[[bytes], object] | None,
    options: argparse.Namespace,
    ended: Callable[[Result], None] = lambda result: None,
) -> int:
    """The same with a machine that is described; ``ended`` gets what it came to."""
    from sandbox.cli.run import trace_kinds
    from sandbox.runner.rom import RomSession

    kinds = trace_kinds(options.trace, TRACE_KINDS)
    recorded: list[dict[str, Any]] = []
    with RomSession(target, config, sink) as session:
        _subscribe(session, kinds, recorded if options.json else None)
        if "walk" in kinds:
            session.trace_walks()
        result = session.finish()
    ended(result)
    if options.json:
        print(json.dumps({**result.to_dict(), "events": recorded} if kinds else result.to_dict(), indent=2))
    else:
        with contextlib.suppress(BrokenPipeError):  # nobody reads it; the status tells
            _narrate(result, options.stats)
    if options.status and not result.error and not result.sanitizer:
        return result.status
    return 0 if result.passed else 1


def _subscribe(session: RomSession, kinds: tuple[str, ...], recorded: list[dict[str, Any]] | None) -> None:
    """Print what is traced, or note it for ``--json``."""
    from sandbox.debug.bare_view import delivery_line, trap_lines
    from sandbox.machine.events import Delivery, Event, PortAccess, TlbMiss, TrapTaken
    from sandbox.report.trace import event_line

    by_kind: dict[str, tuple[type[Event], ...]] = {
        "faults": (TrapTaken, Delivery),
        "ports": (PortAccess,),
        "walk": (TlbMiss,),
    }
    wanted = [each for kind in kinds for each in by_kind[kind]]
    columns = columns_of(sys.stderr)

    def show(event: Event) -> None:
        if recorded is not None:
            recorded.append(event.to_dict())
            return
        if isinstance(event, TrapTaken):
            lines = trap_lines(session.bare, event, columns)
        elif isinstance(event, Delivery):
            lines = [delivery_line(event)]
        else:
            lines = [" " * 7 + event_line(event, lambda _, text: text)]
        print("\n".join(part for line in lines for part in wrapped(line, columns)), file=sys.stderr)

    if wanted:
        session.machine.bus.subscribe(show, *wanted)


def _narrate(result: Result, stats: bool) -> None:
    from sandbox.cli.run import print_stats, tell_reports, tlb_text

    if result.error or result.status:
        print_lines([f"sandbox: {result.headline()}"], sys.stderr, "red")
        print_lines(result.detail.splitlines(), sys.stderr)
    tell_reports(result.sanitizer)
    if stats:
        summary = result.summary
        took = f"{summary.seconds * 1000:.1f} ms of host time, {summary.blocks:,} blocks"
        tlb = [("", tlb_text(number, counts)) for number, counts in enumerate(summary.tlb)]
        print_stats((("time", took), ("page faults", f"{summary.page_faults:,}"), *tlb))
