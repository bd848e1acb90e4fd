"""Running an image up to a place, for the verbs that look at a stopped machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from sandbox.cli.colour import print_lines
from sandbox.cli.guest_words import refuse_unused
from sandbox.cli.machine_options import add_machine_options, add_symbols_option, machine_config
from sandbox.x86.errors import ConfigurationError

if TYPE_CHECKING:
    from sandbox.debug.debugger import Debugger
    from sandbox.kernel.base.config import KernelConfig
    from sandbox.kernel.main import System
    from sandbox.runner.rom import RomConfig
    from sandbox.runner.target import Target


def add_stop_options(parser: argparse.ArgumentParser) -> None:
    """The image, where to stop, and the machine."""
    parser.add_argument("image", help="manifest or its folder, ELF file, or source (.S, .asm, .c)")
    parser.add_argument("--at", metavar="WHERE", help="symbol or address to stop at (default: the first instruction)")
    add_symbols_option(parser)
    add_machine_options(parser)


def look(options: argparse.Namespace, command: str, *, watched: bool = False) -> int:
    """Stop the guest at the place asked for and print one debugger command's answer.

    ``watched``: its TLBs are followed from the beginning.
    """
    from sandbox.debug.debugger import Debugger
    from sandbox.debug.open import open_target
    from sandbox.runner.target import resolve

    target = resolve(options.image)
    refuse_unused(options, "view", "")
    refuse_unused(options, target.kind, options.image)
    symbols = getattr(options, "symbols", None)
    with closing(open_target(target, config_for(options, target), symbols=symbols)) as opened:
        if watched:
            opened.watch_tlbs()
        answer = _stop(Debugger(opened), options).execute(command)
    if answer.error:
        raise ConfigurationError(answer.error)
    if options.json:
        print(json.dumps(next(iter(answer.data.values())), indent=2))
    else:
        print_lines(answer.lines)
    return 0


def config_for(options: argparse.Namespace, target: Target) -> KernelConfig | RomConfig:
    """The machine for an image of any kind and these options.  Raises ConfigurationError."""
    from sandbox.cli.rom import config_of

    return config_of(target, options) if target.kind == "rom" else machine_config(options, target)


@contextmanager
def stopped_session(options: argparse.Namespace) -> Iterator[System]:
    """A kernel as it is when a program has come to ``--at`` or its end, a module is loaded, or nothing runs."""
    from sandbox.debug.debugger import Debugger
    from sandbox.debug.kernel_target import KernelTarget
    from sandbox.runner.run import open_session
    from sandbox.runner.session import MachineSession
    from sandbox.runner.target import Target, resolve

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
    session = open_session(target, machine_config(options, target))
    if options.at is not None and not options.end:
        with closing(KernelTarget(target.name, session)) as opened:
            _stop(Debugger(opened), options)
            yield session.system
        return
    with session:
        if options.end:
            session.finish()
        else:
            session.load()
        yield session.system


def _stop(debugger: Debugger, options: argparse.Namespace) -> Debugger:
    """The guest at ``--at``, or at its first instruction.  Raises ConfigurationError where it does not come there."""
    stop = debugger.begin()
    if options.at is not None and not stop.ended:
        answer = debugger.execute(f"tbreak {options.at}")
        if answer.error:
            raise ConfigurationError(answer.error)
        stop = debugger.go()
    if stop.ended:
        where = options.at or "its first instruction"
        raise ConfigurationError(f"{options.image} ended ({stop.headline}) before it came to {where}")
    return debugger


def parser_for(commands: Any, name: str, title: str, words: str) -> argparse.ArgumentParser:
    """A subparser with a description, and a usage of one line: ``words`` are what it takes besides options."""
    made: argparse.ArgumentParser = commands.add_parser(name, help=title, description=f"{title.capitalize()}.")
    made.usage = f"{made.prog} [options] {words}"
    return made
