"""Running an image up to a place, for the verbs that look at a stopped machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sandbox.cli.colour import print_lines
from sandbox.cli.guest_words import refuse_unused
from sandbox.cli.machine_options import add_machine_options, machine_config

if TYPE_CHECKING:
    from sandbox.debug.debugger import Debugger
    from sandbox.kernel.main import System


def add_stop_options(parser: argparse.ArgumentParser) -> None:
    """The image, where to stop, and the machine."""
    parser.add_argument("image", help="manifest or its folder, ELF file, or source (.S, .asm, .c)")
    parser.add_argument("--at", metavar="WHERE", help="symbol or address to stop at (default: the first instruction)")
    add_machine_options(parser)


def look(options: argparse.Namespace, command: str) -> int:
    """Stop the program at the place asked for and print one debugger command's answer."""
    from sandbox.runner.run import Session
    from sandbox.runner.target import resolve
    from sandbox.x86.errors import ConfigurationError

    target = resolve(options.image)
    refuse_unused(options, "view", "")
    refuse_unused(options, target.kind, options.image)
    if target.kind != "program":
        raise ConfigurationError(f"{options.image}: a {target.kind}; a place to stop at is in a program")
    config = machine_config(options, target)
    with Session(target.name, target.data, target.arguments, config, None, target.modules) as session:
        debugger, lines = _stop(session, options, command)
        if options.json:
            found = debugger.walk.to_dict() if debugger.walk is not None else debugger.maps
            print(json.dumps(found, indent=2))
        else:
            print_lines(lines)
    return 0


@contextmanager
def stopped_session(options: argparse.Namespace) -> Iterator[System]:
    """A kernel as it is when a program has come to ``--at`` or its end, a module is loaded, or nothing runs."""
    from sandbox.runner.modules import ModuleSession
    from sandbox.runner.run import open_session
    from sandbox.runner.session import MachineSession
    from sandbox.runner.target import Target, resolve
    from sandbox.x86.errors import ConfigurationError

    refuse_unused(options, "view", "")
    if options.image is None:
        refuse_unused(options, "none", "")
        config = machine_config(options, Target("none", "program", b""))
        with MachineSession.idle(config) as bare:
            yield bare.system
        return
    target = resolve(options.image)
    refuse_unused(options, target.kind, options.image)
    if target.kind == "rom":
        raise ConfigurationError(f"{options.image}: a ROM image has no kernel under it")
    if target.kind == "module" and options.at is not None:
        raise ConfigurationError(f"{options.image}: a module is looked at when it is loaded; --at is for programs")
    with open_session(target, machine_config(options, target)) as session:
        if options.end:
            session.finish()
        elif isinstance(session, ModuleSession) or options.at is None:
            session.load()
        else:
            _stop(session, options, "tasks")
        yield session.system


def _stop(session: Any, options: argparse.Namespace, command: str) -> tuple[Debugger, list[str]]:
    from sandbox.debug.debugger import Debugger
    from sandbox.x86.errors import ConfigurationError

    told: list[str] = []
    commands = [command]
    if options.at is not None:
        commands = [f"break {options.at}", "continue", command]

    def until_one_fails() -> Iterator[str]:
        for each in commands:
            if any(line.startswith("error: ") for line in told):
                return
            yield each

    debugger = Debugger(session, until_one_fails(), told.append)
    result = debugger.obey()
    errors = [line for line in told if line.startswith("error: ")]
    if errors:
        raise ConfigurationError(errors[0].removeprefix("error: "))
    if result is not None:
        raise ConfigurationError(f"{options.image} ended ({result.headline()}) before it came to {options.at}")
    start = max(number for number, line in enumerate(told) if line.startswith("->"))
    return debugger, told[start + 1 :]


def parser_for(commands: Any, name: str, title: str, words: str) -> argparse.ArgumentParser:
    """A subparser with a description, and a usage of one line: ``words`` are what it takes besides options."""
    made: argparse.ArgumentParser = commands.add_parser(name, help=title, description=f"{title.capitalize()}.")
    made.usage = f"{made.prog} [options] {words}"
    return made
