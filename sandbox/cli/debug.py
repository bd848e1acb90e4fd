"""``sandbox debug``: the debugger on a terminal, or driven by a script."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox.cli.colour import print_lines
from sandbox.cli.guest_words import add_guest_arguments, refuse_unused
from sandbox.cli.machine_options import add_machine_options, machine_config
from sandbox.cli.streams import BAD_INPUT, tell_lost
from sandbox.x86.errors import ConfigurationError


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser("debug", help=title, description=f"{title.capitalize()}.")
    parser.add_argument("image", help="manifest or its folder, ELF file, or source (.S, .asm, .c)")
    add_guest_arguments(parser)
    parser.add_argument(
        "-x", "--script", dest="commands", action="append", type=Path, metavar="FILE",
        help="commands from a file; several -x and -e are obeyed in their order",
    )  # fmt: skip
    parser.add_argument("-e", dest="commands", action="append", metavar="COMMAND", help="a command")
    add_machine_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from sandbox.cli.run import tell_reports
    from sandbox.debug.debugger import Debugger
    from sandbox.kernel.drivers.console import HostSink
    from sandbox.runner.run import Session
    from sandbox.runner.session import Streams
    from sandbox.runner.target import resolve

    lines = _ask() if options.commands is None else iter(_script(options.commands))
    target = resolve(options.image, options.arguments)
    refuse_unused(options, target.kind, options.image)
    streams = Streams(stdout=HostSink(1), stderr=HostSink(2))
    config = machine_config(options, target)
    config.time_limit = options.time_limit or 0
    if target.kind != "program":
        raise ConfigurationError(
            f"{options.image}: a {target.kind}; the debugger runs programs, with --module beside them"
        )
    with Session(target.name, target.data, target.arguments, config, streams, target.modules) as session:
        person = options.commands is None and sys.stdin.isatty()
        result = Debugger(session, lines, _tell, person).obey()
        reports = session.reports()
    if result is not None:
        print(result.headline(), flush=True)
    if reports:
        tell_reports(reports)
        return 1
    return BAD_INPUT if tell_lost((streams.stdout, streams.stderr)) else 0


def _tell(line: str) -> None:
    print_lines([line])
    sys.stdout.flush()


def _script(pieces: list[str | Path]) -> list[str]:
    """Commands from ``-e`` and the files of ``-x``, in the order given.  Raises ConfigurationError."""
    from sandbox.image.files import read_text

    lines: list[str] = []
    for piece in pieces:
        lines += read_text(piece).splitlines() if isinstance(piece, Path) else [piece]
    return lines


def _ask() -> Iterator[str]:
    """Lines from the terminal; an empty one repeats the last command.  Raises ConfigurationError."""
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
