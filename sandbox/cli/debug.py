"""``sandbox debug``: the debugger on a terminal, or driven by a script."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox.cli.machine_options import add_guest_arguments, add_machine_options, machine_config
from sandbox.cli.streams import BAD_INPUT, tell_lost


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser("debug", help=title, description=f"{title.capitalize()}.")
    parser.add_argument("image", help="manifest or its folder, ELF file, or source (.S, .asm, .c)")
    add_guest_arguments(parser)
    parser.add_argument("-x", "--script", type=Path, metavar="FILE", help="commands from a file")
    parser.add_argument(
        "-e", dest="commands", action="append", metavar="COMMAND", help="a command; may be given several times"
    )
    add_machine_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from sandbox.debug.debugger import Debugger
    from sandbox.image.files import read_text
    from sandbox.kernel.drivers.console import HostSink
    from sandbox.runner.run import Session
    from sandbox.runner.session import Streams
    from sandbox.runner.target import resolve
    from sandbox.x86.errors import ConfigurationError

    lines: Iterator[str]
    if options.script is not None:
        lines = iter(read_text(options.script).splitlines())
    elif options.commands:
        lines = iter(options.commands)
    else:
        lines = _ask()
    target = resolve(options.image, options.arguments)
    streams = Streams(stdout=HostSink(1), stderr=HostSink(2))
    config = machine_config(options, target)
    config.time_limit = options.time_limit or 0
    if target.kind != "program":
        raise ConfigurationError(
            f"{options.image}: a {target.kind}; the debugger runs programs, with --module beside them"
        )
    with Session(target.name, target.data, target.arguments, config, streams, target.modules) as session:
        result = Debugger(session, lines, lambda line: print(line, flush=True)).obey()
    if result is not None:
        print(result.headline())
    return BAD_INPUT if tell_lost((streams.stdout, streams.stderr)) else 0


def _ask() -> Iterator[str]:
    """Lines from the terminal; an empty one repeats the last command.  Raises ConfigurationError."""
    from sandbox.x86.errors import ConfigurationError

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    last = ""
    prompt = "(sandbox) " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt)
        except EOFError:
            return
        except OSError as error:
            raise ConfigurationError(f"standard input: {error.strerror}") from error
        last = line if line.strip() else last
        yield last
