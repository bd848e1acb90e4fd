"""``sandbox record``: an image is run, and the run is kept in a file."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.cli.guest_words import add_guest_arguments, refuse_unused
from sandbox.cli.machine_options import add_machine_options, machine_config
from sandbox.cli.places import check_place
from sandbox.x86.errors import ConfigurationError

if TYPE_CHECKING:
    from sandbox.runner.recording import Recording
    from sandbox.runner.result import Result
    from sandbox.runner.target import Target


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser("record", help=title, description=f"{title.capitalize()}.")
    parser.add_argument("image", help="manifest or its folder, ELF file, or source (.S, .asm, .c)")
    add_guest_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="where the recording goes")
    parser.add_argument("--stats", action="store_true", help="counts and times at the end")
    parser.add_argument("--status", action="store_true", help="exit with the guest's own status (128 + signal)")
    add_machine_options(parser)
    parser.set_defaults(run=run, trace=[], strace=False, screen=None, json=False, core=None)


def run(options: argparse.Namespace) -> int:
    from sandbox.runner.target import resolve

    check_place("-o", options.output)
    target = resolve(options.image, options.arguments)
    refuse_unused(options, target.kind, options.image)
    return _run_rom(target, options) if target.kind == "rom" else _run(target, options)


def _run_rom(target: Target, options: argparse.Namespace) -> int:
    from sandbox.cli.rom import config_of, run_rom_session
    from sandbox.kernel.drivers.console import HostSink
    from sandbox.runner.recording import Recording

    config = config_of(target, options)
    made = Recording(target, config)
    return run_rom_session(target, config, HostSink(1), options, lambda result: _keep(made, result, options.output))


def _run(target: Target, options: argparse.Namespace) -> int:
    from sandbox.cli.run import run_session
    from sandbox.runner.outside import Input, outside
    from sandbox.runner.recording import Recording

    config = machine_config(options, target)
    if config.clock == "host":
        config.started = time.time_ns()
    config.limit_waits = options.time_limit is not None
    given = Input(target.manifest.stdin.encode()) if target.manifest is not None and target.manifest.stdin else None
    made = Recording(target, config)
    around = outside(given or Input(descriptor=0, terminal=os.isatty(0) and os.isatty(1)), made.tape, own=True)
    made.waits, made.terminal = around.waits, around.terminal
    return run_session(target, config, around.streams, options, lambda result: _keep(made, result, options.output))


def _keep(made: Recording, result: Result, path: Path) -> None:
    from sandbox.runner.recording import Ending

    made.ending = Ending.of(result)
    data = made.pack()
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ConfigurationError(f"-o {path}: {error.strerror}") from error
    sys.stdout.flush()
    print(f"sandbox: {path}: {len(data):,} bytes", file=sys.stderr)
