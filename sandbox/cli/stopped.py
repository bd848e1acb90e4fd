"""Running an image up to a place, for the verbs that look at a stopped machine."""

from __future__ import annotations

import argparse
from typing import Any

from sandbox.cli.machine_options import add_machine_options, machine_config


def add_stop_options(parser: argparse.ArgumentParser) -> None:
    """The image, where to stop, and the machine."""
    parser.add_argument("image", help="manifest or its folder, ELF file, or source (.S, .asm, .c)")
    parser.add_argument("--at", metavar="WHERE", help="symbol or address to stop at (default: the first instruction)")
    add_machine_options(parser)


def look(options: argparse.Namespace, command: str) -> int:
    """Stop the image at the place asked for and print one debugger command's answer."""
    from sandbox.debug.debugger import Debugger
    from sandbox.runner.run import Session
    from sandbox.runner.target import resolve
    from sandbox.x86.errors import ConfigurationError

    target = resolve(options.image)
    told: list[str] = []
    commands = [command]
    if options.at is not None:
        commands = [f"break {options.at}", "continue", command]
    with Session(target.name, target.data, target.arguments, machine_config(options, target)) as session:
        result = Debugger(session, commands, told.append).run()
    errors = [line for line in told if line.startswith("error: ")]
    if errors:
        raise ConfigurationError(errors[0].removeprefix("error: "))
    if result is not None:
        raise ConfigurationError(f"{options.image} ended ({result.headline()}) before it came to {options.at}")
    start = max(number for number, line in enumerate(told) if line.startswith("->"))
    print("\n".join(told[start + 1 :]))
    return 0


def parser_for(commands: Any, name: str, title: str) -> argparse.ArgumentParser:
    """A subparser with a description."""
    made: argparse.ArgumentParser = commands.add_parser(name, help=title, description=f"{title.capitalize()}.")
    return made
