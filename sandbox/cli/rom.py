"""``sandbox run`` for ROM images."""

from __future__ import annotations

import argparse
import json
import sys

from sandbox.runner.target import Target


def run_rom_image(target: Target, options: argparse.Namespace) -> int:
    """Run a flat image on the bare machine; its serial port is standard output."""
    from sandbox.cli.colour import Colour
    from sandbox.cli.machine_options import parse_count
    from sandbox.kernel.drivers.console import HostSink
    from sandbox.machine.events import Delivery, Event, PortAccess
    from sandbox.runner.rom import rom_config, run_rom
    from sandbox.x86.errors import ConfigurationError

    config = rom_config(
        target,
        ram=parse_count(options.ram),
        cpus=options.cpus,
        seed=options.seed,
        switches=frozenset(options.switches) or None,
        block_limit=parse_count(options.limit),
        time_limit=options.time_limit,
    )
    known: dict[str, tuple[type[Event], ...]] = {"faults": (Delivery,), "ports": (PortAccess,)}
    kinds: list[type[Event]] = []
    for word in (options.trace or "").split(","):
        if word and word not in known:
            raise ConfigurationError(f"--trace {word}: on a bare machine known are {', '.join(known)}")
        kinds += known.get(word, ())
    readers = [(lambda event: print(event.to_dict(), file=sys.stderr), tuple(kinds))] if kinds else []
    result = run_rom(target, config, None if options.json else HostSink(1), readers)
    if options.json:
        print(json.dumps(result.to_dict(), indent=2))
    elif result.error or result.status:
        paint = Colour(sys.stderr)
        print(paint("red", f"sandbox: {result.headline()}"), file=sys.stderr)
        if result.detail:
            print(result.detail, file=sys.stderr)
    if options.status and not result.error:
        return result.status
    return 0 if result.passed else 1
