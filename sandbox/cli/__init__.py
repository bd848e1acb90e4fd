"""The command line: one module a verb, imported only when it is used."""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from sandbox import bundle
from sandbox.cli import streams
from sandbox.cli.streams import BAD_INPUT
from sandbox.x86.errors import SandboxError, error_of

VERBS = {
    "run": "run an image",
    "record": "run an image and keep the run in a file",
    "explain": "why it faulted: instruction, operands, walk, who resolved it and how",
    "walk": "the page walk of an address",
    "maps": "areas and regions of a stopped machine",
    "frames": "physical memory of a stopped machine",
    "tlb": "what a CPU's TLB may hold, beside what the tables say",
    "debug": "step, break, catch faults, go back",
    "gdb": "let gdb attach by its remote protocol",
    "test": "images against their manifests, whole and broken",
    "semantics": "instructions against this host's CPU",
    "campaign": "images or seeds over processes and hosts, gone on with at any time",
    "compare": "one work under each way to reach highmem, counted",
    "images": "list the committed images, build them again, compare",
    "asm": "assemble a snippet",
    "disasm": "disassemble a file or bytes",
    "doctor": "check the engine, the tools and this host",
}
argparse._ = str  # type: ignore[attr-defined]  # else it looks for translations, for which gettext imports locale
COLLECT_AFTER = 50_000
"""New objects between looks for garbage: the first tens of thousands, modules and the machine, stay to the end."""
INTERRUPTED = 130
FEW = 6
"""Choices of an option that an error lists."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status: 0 passed, 1 the guest failed, 2 bad input, 3 our fault, 130
    interrupted."""
    gc.set_threshold(COLLECT_AFTER)
    streams.open_standard()
    modules = bundle.use() if arguments is None else None
    try:
        try:
            status = _guarded(list(sys.argv[1:] if arguments is None else arguments))
        except SystemExit:  # argparse's, which has printed something
            streams.flush()
            raise
        finally:
            if modules is not None:
                modules.keep()
        return status if streams.flush() else status or BAD_INPUT
    except streams.OutputLost as error:
        streams.discard(error.descriptor)
        print(f"sandbox: {error}: what was to be printed is lost", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        # Whoever read has had enough.
        streams.discard(1)
        streams.drop_unread()
        return 0


def _guarded(arguments: list[str]) -> int:
    """Run one command and tell of errors in a line."""
    try:
        options = _parse(arguments)
        return int(options.run(options))
    except SandboxError as error:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
        streams.say(f"sandbox: {error.summary}", *([error.detail] if error.detail else []))
        return error.exit_status
    except (BrokenPipeError, streams.OutputLost):
        raise
    except KeyboardInterrupt:
        streams.say("sandbox: interrupted")
        return INTERRUPTED
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "sandbox" or os.environ.get("SANDBOX_TRACEBACK"):
            raise
        streams.say(
            f"sandbox: the package {error.name} is not installed for {sys.executable}",
            "`make setup` installs all that is needed into .venv; `sandbox doctor` looks at the rest",
        )
        return BAD_INPUT
    except Exception as error:
        if os.environ.get("SANDBOX_TRACEBACK"):
            raise
        told = error_of(error)
        streams.say(f"sandbox: {told.summary}", *([told.detail] if told.detail else []))
        return told.exit_status


class _Help(argparse.HelpFormatter):
    """Names with hyphens, as switches have them, stay whole at the end of a line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)

    def add_argument(self, action: argparse.Action) -> None:
        """argparse leaves the indent of verbs out of the column in which their titles begin."""
        super().add_argument(action)
        for each in self._iter_indented_subactions(action):
            length = len(self._format_action_invocation(each)) + self._current_indent
            self._action_max_length = max(self._action_max_length, length)

    def _split_lines(self, text: str, width: int) -> list[str]:
        import textwrap

        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def _columns() -> int:
    """As ``shutil.get_terminal_size``, which argparse asks once an option: its module takes 2 ms to import."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    try:
        return (os.get_terminal_size(sys.__stdout__.fileno()).columns if sys.__stdout__ else 0) or 80
    except (ValueError, OSError):
        return 80


class _Parser(argparse.ArgumentParser):
    """Of a verb."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": _Help, **options})

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Of many choices the nearest is told, not all."""
        choices = list(action.choices or ())
        if len(choices) <= FEW or value in choices:
            super()._check_value(action, value)
            return
        import difflib

        near = difflib.get_close_matches(value, choices, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"`{self.prog} --help` lists them"
        raise argparse.ArgumentError(action, f"there is no {value!r}; {hint}")

    def error(self, message: str) -> NoReturn:
        """As argparse, in the columns of the terminal."""
        streams.say(*self.format_usage().splitlines(), f"{self.prog}: error: {message}")
        self.exit(BAD_INPUT)


def _parse(words: list[str]) -> argparse.Namespace:
    """The options of one command, from its own module; the others' are not imported, and only told of where a list
    of verbs may be asked for."""
    verb = next((word for word in words if not word.startswith("-")), None)
    parser = _Parser(prog="sandbox", description="Run real 32-bit x86 code with paging on, and see every fault.")
    parser.add_argument("--version", action="version", version=f"sandbox {_version()}" if "--version" in words else "")
    guest: list[str] = []
    commands = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    for name, title in VERBS.items():
        if name == verb:
            importlib.import_module(f"sandbox.cli.{name}").add_parser(commands, title)
            commands.choices[name].allow_abbrev = False
            words, guest = _split(commands.choices[name], words, name)
        elif verb not in VERBS or words[0] != verb:
            commands.add_parser(name, help=title)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        of = commands.choices[verb] if verb in VERBS else parser
        of.error(f"unrecognized argument{'s' * (len(unknown) > 1)}: {' '.join(unknown)}")
    if guest:
        options.arguments = guest
    return options


def _version() -> str:
    """Of the installed package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sandbox")
    except PackageNotFoundError:
        return "(not installed)"


def _split(parser: argparse.ArgumentParser, words: list[str], verb: str) -> tuple[list[str], list[str]]:
    """Keep files with a dash and the guest's own arguments from argparse, for the verbs that take them."""
    from sandbox.cli.guest_words import name_dashed_files, names_together, split_guest_words

    at = words.index(verb) + 1
    ours, guest = name_dashed_files(parser, words[at:]), list[str]()
    if parser.get_default("takes_guest_words"):
        ours, guest = split_guest_words(parser, ours)
    else:
        ours = names_together(parser, ours)
    return [*words[:at], *ours], guest
