"""``sandbox debug``: the debugger on a terminal, or driven by a script."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.cli.colour import print_lines
from sandbox.cli.guest_words import add_guest_arguments, refuse_unused
from sandbox.cli.machine_options import add_machine_options, add_symbols_option, machine_config
from sandbox.debug.answer import one_line
from sandbox.debug.stops import StopKind
from sandbox.kernel.base.config import KernelConfig
from sandbox.x86.errors import ConfigurationError, SandboxError

if TYPE_CHECKING:
    from sandbox.debug.debugger import Answer
    from sandbox.debug.target import Target
    from sandbox.debug.worker import Remote
    from sandbox.runner.outside import Outside
    from sandbox.runner.rom import RomConfig
    from sandbox.runner.target import Target as Image

HISTORY_LINES = 1000
STANDARD_INPUT = "standard input"
_BACK = ("reverse-step", "reverse-next", "reverse-continue", "reverse-finish", "goto")


class CommandRefused(SandboxError):
    """A line of a script could not be carried out: what came behind it may not be what was meant."""

    exit_status = 2


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser("debug", help=title, description=f"{title.capitalize()}.")
    add_image_and_machine(parser)
    parser.add_argument(
        "-x", "--script", dest="commands", action="append", type=Path, metavar="FILE",
        help="commands from a file; several -x and -e are obeyed in their order",
    )  # fmt: skip
    parser.add_argument("-e", dest="commands", action="append", metavar="COMMAND", help="a command")
    parser.add_argument("--json", action="store_true", help="one JSON object a command")
    parser.add_argument("--status", action="store_true", help="exit with the guest's own status (128 + signal)")
    parser.set_defaults(run=run)


def add_image_and_machine(parser: argparse.ArgumentParser) -> None:
    """What is debugged, and on what."""
    parser.add_argument("image", help="manifest or its folder, ELF file, or source (.S, .asm, .c)")
    add_guest_arguments(parser)
    add_symbols_option(parser)
    parser.add_argument(
        "--stdin", metavar="FILE",
        help="the program's standard input: a file, a pipe, a terminal; - for our own, with -e or -x",
    )  # fmt: skip
    add_machine_options(parser)


def run(options: argparse.Namespace) -> int:
    from sandbox.debug.worker import Remote

    script = None if options.commands is None else _script(options.commands)
    person = script is None and sys.stdin.isatty()
    with Remote(builder(options, person)) as remote:
        face = _Face(remote, options.json, person)
        face.show(remote.first)
        with _line_editing(remote) if person else contextlib.nullcontext():
            for place, line in _ask() if script is None else script:
                if not face.obey(line, place):
                    break
        status = face.status(options.status)
        face.tell_refused()
        return status


class _Face:
    """Commands in, answers out."""

    def __init__(self, remote: Remote, as_json: bool, person: bool) -> None:
        self._remote, self._json, self._person = remote, as_json, person
        self._refused: list[str] = []

    def obey(self, line: str, place: str) -> bool:
        """False when the debugger is to be left.  ``place`` is where the line stands, for who did not type it."""
        if not line.split("#")[0].strip():
            return True
        with self._telling(line):
            answer = self._remote.execute(line)
        if not answer.leaves:
            self.show(answer)
        if answer.error and not self._person:
            said, error = one_line(line.strip()), answer.error
            self._refused.append(f"{place}: {error}" if error.startswith(f"{said}: ") else f"{place}: {said}: {error}")
        if not self._person and answer.stop is not None and answer.stop.kind is StopKind.INTERRUPT:
            raise KeyboardInterrupt  # nobody is there who could want to go on
        return not answer.leaves

    @contextlib.contextmanager
    def _telling(self, line: str) -> Iterator[None]:
        """A person is told that going back takes its time."""
        told = self._person and sys.stderr.isatty() and line.split()[0] in _BACK
        if not told:
            yield
            return

        def say() -> None:
            print("going back … (Ctrl-C gives up)", end="", file=sys.stderr, flush=True)
            said.append(True)

        said: list[bool] = []
        self._remote.patience = say
        try:
            yield
        finally:
            self._remote.patience = lambda: None
            if said:
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def show(self, answer: Answer) -> None:
        """Print what came back."""
        if self._json:
            print(json.dumps(answer.to_dict()))
        else:
            print_lines(answer.lines)
            if answer.error:
                print_lines([f"error: {answer.error}"])
        sys.stdout.flush()

    def tell_refused(self) -> None:
        """Raises CommandRefused for the first line of a script that came to an error; a person has seen it."""
        if self._refused:
            more = len(self._refused) - 1
            raise CommandRefused(self._refused[0], f"{more} more after it" if more else "")

    def status(self, of_guest: bool) -> int:
        """1 when the sanitizer has found something; else 0, or how the guest ended where that is asked for."""
        from sandbox.cli.run import tell_reports
        from sandbox.debug.worker import end_of, reports_of

        reports = self._remote.call(reports_of)
        if reports:
            tell_reports(reports)
        ended = self._remote.call(end_of) if of_guest else None
        if reports or ended is None:
            return 1 if reports else 0
        status, signal, error = ended
        return 1 if error else 128 + signal if signal else int(status)


def builder(options: argparse.Namespace, person: bool) -> Callable[[], Target]:
    """What the worker builds; the image and the machine are checked here.

    Stops are no time of the run where a person looks at them.
    """
    from sandbox.cli.rom import config_of
    from sandbox.runner.outside import open_input, outside, recorded
    from sandbox.runner.target import is_recording, resolve

    if is_recording(options.image):
        from sandbox.runner.recording import load

        refuse_unused(options, "recording", options.image)
        made = load(options.image)
        return lambda: _opened(made.target, made.config, recorded(made, options.engine), person, options.symbols)
    target = resolve(options.image, options.arguments)
    refuse_unused(options, target.kind, options.image)
    config = config_of(target, options) if target.kind == "rom" else machine_config(options, target)
    config.time_limit = options.time_limit or 0

    manifest = target.manifest
    own_is_free = options.verb == "gdb" or options.commands is not None
    given = open_input(options.stdin, own_is_free, manifest.stdin.encode() if manifest is not None else b"")

    if isinstance(config, KernelConfig) and config.clock == "host":
        config.started = time.time_ns()
    return lambda: _opened(target, config, outside(given), person, options.symbols)


def _opened(
    image: Image, config: KernelConfig | RomConfig, streams: Outside, person: bool, symbols: Path | None
) -> Target:
    """In the worker: the machine."""
    from sandbox.debug.open import open_target

    made = open_target(image, config, streams, symbols)
    made.person = person
    return made


def _script(pieces: list[str | Path]) -> list[tuple[str, str]]:
    """Commands from ``-e`` and the files of ``-x``, in the order given, each behind its place.

    Raises ConfigurationError.
    """
    from sandbox.image.files import read_text

    lines: list[tuple[str, str]] = []
    for piece in pieces:
        if isinstance(piece, Path):
            lines += [(f"{piece}:{at}", line) for at, line in enumerate(read_text(piece).splitlines(), 1)]
        else:
            lines.append(("-e", piece))
    return lines


@contextlib.contextmanager
def _line_editing(remote: Remote) -> Iterator[None]:
    """Tab completes commands and symbols; what was typed the last time is there again."""
    try:
        import readline
    except ImportError:
        yield
        return
    found: list[str] = []

    def complete(word: str, number: int) -> str | None:
        if number == 0:
            begun = readline.get_line_buffer()[: readline.get_begidx()]
            whole = [each[len(begun) :] for each in remote.complete(begun + word)]
            found[:] = [f"{each} " for each in whole] if len(whole) == 1 else whole
        return found[number] if number < len(found) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" ")
    readline.parse_and_bind("tab: complete")
    history = _history_file()
    with contextlib.suppress(OSError):
        readline.read_history_file(history)
    try:
        yield
    finally:
        readline.set_completer(None)
        readline.set_history_length(HISTORY_LINES)
        with contextlib.suppress(OSError):  # a home that cannot be written has no history
            history.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(history)


def _history_file() -> Path:
    """Below $XDG_STATE_HOME, which is ~/.local/state when it is not set (XDG Base Directory Specification 0.8)."""
    given = os.environ.get("XDG_STATE_HOME", "")
    state = Path(given) if given.startswith("/") else Path(os.environ.get("HOME") or "/") / ".local" / "state"
    return state / "sandbox" / "debug_history"


def _ask() -> Iterator[tuple[str, str]]:
    """Lines, each behind its place, from standard input; at a terminal an empty one repeats the last command.

    Raises ConfigurationError.
    """
    last, count = "", 0
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
            raise ConfigurationError(f"{STANDARD_INPUT}: {error.strerror}") from error
        last, count = line if line.strip() else last, count + 1
        yield f"{STANDARD_INPUT}:{count}", last if prompt else line
