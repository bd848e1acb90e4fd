"""``sandbox debug``: the debugger on a terminal, or driven by a script."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.cli.colour import print_lines
from sandbox.cli.guest_words import add_guest_arguments, refuse_unused
from sandbox.cli.machine_options import add_machine_options, add_symbols_option, machine_config
from sandbox.debug.stops import StopKind
from sandbox.x86.errors import ConfigurationError

if TYPE_CHECKING:
    from sandbox.debug.debugger import Answer
    from sandbox.debug.target import Target
    from sandbox.debug.worker import Remote


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser("debug", help=title, description=f"{title.capitalize()}.")
    add_image_and_machine(parser)
    parser.add_argument(
        "-x", "--script", dest="commands", action="append", type=Path, metavar="FILE",
        help="commands from a file; several -x and -e are obeyed in their order",
    )  # fmt: skip
    parser.add_argument("-e", dest="commands", action="append", metavar="COMMAND", help="a command")
    parser.add_argument("--json", action="store_true", help="one JSON object a command")
    parser.set_defaults(run=run)


def add_image_and_machine(parser: argparse.ArgumentParser) -> None:
    """What is debugged, and on what."""
    parser.add_argument("image", help="manifest or its folder, ELF file, or source (.S, .asm, .c)")
    add_guest_arguments(parser)
    add_symbols_option(parser)
    add_machine_options(parser)


def run(options: argparse.Namespace) -> int:
    from sandbox.debug.worker import Remote

    script = None if options.commands is None else _script(options.commands)
    person = script is None and sys.stdin.isatty()
    with Remote(builder(options, person)) as remote:
        face = _Face(remote, options.json, person)
        face.show(remote.first)
        with _completion(remote) if script is None else contextlib.nullcontext():
            for line in _ask() if script is None else script:
                if not face.obey(line):
                    break
        return face.status()


class _Face:
    """Commands in, answers out."""

    def __init__(self, remote: Remote, as_json: bool, person: bool) -> None:
        self._remote, self._json, self._person = remote, as_json, person

    def obey(self, line: str) -> bool:
        """False when the debugger is to be left."""
        if not line.split("#")[0].strip():
            return True
        answer = self._remote.execute(line)
        if not answer.leaves:
            self.show(answer)
        if not self._person and answer.stop is not None and answer.stop.kind is StopKind.INTERRUPT:
            raise KeyboardInterrupt  # nobody is there who could want to go on
        return not answer.leaves

    def show(self, answer: Answer) -> None:
        """Print what came back."""
        if self._json:
            print(json.dumps(answer.to_dict()))
        else:
            print_lines(answer.lines)
            if answer.error:
                print_lines([f"error: {answer.error}"])
        sys.stdout.flush()

    def status(self) -> int:
        """1 when the sanitizer has found something."""
        from sandbox.cli.run import tell_reports
        from sandbox.debug.worker import reports_of

        reports = self._remote.call(reports_of)
        if reports:
            tell_reports(reports)
        return 1 if reports else 0


def builder(options: argparse.Namespace, person: bool) -> Callable[[], Target]:
    """What the worker builds; the image and the machine are checked here.

    Stops are no time of the run where a person looks at them.
    """
    from sandbox.cli.rom import config_of
    from sandbox.runner.target import resolve

    target = resolve(options.image, options.arguments)
    refuse_unused(options, target.kind, options.image)
    config = config_of(target, options) if target.kind == "rom" else machine_config(options, target)
    config.time_limit = options.time_limit or 0

    def build() -> Target:
        from sandbox.debug.open import open_target
        from sandbox.debug.timeline import OnceSink
        from sandbox.kernel.drivers.console import HostSink
        from sandbox.runner.session import Streams

        streams = Streams(stdout=OnceSink(HostSink(1)), stderr=OnceSink(HostSink(2)))
        made = open_target(target, config, streams, options.symbols)
        made.person = person
        return made

    return build


def _script(pieces: list[str | Path]) -> list[str]:
    """Commands from ``-e`` and the files of ``-x``, in the order given.  Raises ConfigurationError."""
    from sandbox.image.files import read_text

    lines: list[str] = []
    for piece in pieces:
        lines += read_text(piece).splitlines() if isinstance(piece, Path) else [piece]
    return lines


@contextlib.contextmanager
def _completion(remote: Remote) -> Iterator[None]:
    """Tab completes commands and symbols."""
    try:
        import readline
    except ImportError:
        yield
        return
    found: list[str] = []

    def complete(word: str, number: int) -> str | None:
        if number == 0:
            begun = readline.get_line_buffer()[: readline.get_begidx()]
            found[:] = [each[len(begun) :] for each in remote.complete(begun + word)]
        return found[number] if number < len(found) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" ")
    readline.parse_and_bind("tab: complete")
    yield
    readline.set_completer(None)


def _ask() -> Iterator[str]:
    """Lines from the terminal; an empty one repeats the last command.  Raises ConfigurationError."""
    last = ""
    prompt = "(sandbox) " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt)
        except EOFError:
            return
        except KeyboardInterrupt:
            if not prompt:
                raise
            print()
            continue
        except OSError as error:
            raise ConfigurationError(f"standard input: {error.strerror}") from error
        last = line if line.strip() else last
        yield last
