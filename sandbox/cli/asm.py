"""``sandbox asm``: a snippet, a file or the standard input to bytes, with a listing."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from sandbox.cli.listing import add_listing_options


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser("asm", help=title, description=f"{title.capitalize()}, in Intel syntax.")
    parser.usage = f"{parser.prog} [options] TEXT|FILE|-"
    parser.add_argument(
        "what", metavar="TEXT|FILE|-", help="such as 'mov eax, 1; int 0x80', a file, or - for the input"
    )
    add_listing_options(parser)
    parser.add_argument("-o", metavar="FILE", dest="out", type=Path, help="write the bytes there, - for the output")
    parser.add_argument("--gnu", action="store_true", help="by GNU as: all that it knows, labels and directives too")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from sandbox.cli.listing import show
    from sandbox.image.listing import code_of
    from sandbox.image.snippet import assemble_lines
    from sandbox.x86.errors import ConfigurationError

    text, name = _read(options.what)
    address = options.address or 0
    if options.gnu:
        data = _by_gnu_as(text, address, name)
    else:
        data = b"".join(raw for _, raw in assemble_lines(text, address, name=name))
    if not data:
        raise ConfigurationError(f"{name}:1: no instruction in it")
    if options.out == Path("-"):
        sys.stdout.buffer.write(data)
        return 0
    if options.out is not None:
        try:
            options.out.write_bytes(data)
        except OSError as error:
            raise ConfigurationError(f"{options.out}: {error.strerror}") from error
        return 0
    show(code_of(data, name, address), options.json)
    return 0


def _read(what: str) -> tuple[str, str]:
    """The text, and its name for messages.  Raises ConfigurationError and UnusableFile."""
    from sandbox.image.files import read_text
    from sandbox.runner.target import on_disk
    from sandbox.x86.errors import ConfigurationError

    try:
        if what == "-":
            return sys.stdin.buffer.read().decode(), "stdin"
        if "\n" not in what and on_disk(Path(what)) and not Path(what).is_dir():
            return read_text(what), what
    except OSError as error:
        raise ConfigurationError(f"stdin: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"stdin: not a text: {error.reason} at byte {error.start}") from error
    return what, "snippet"


def _by_gnu_as(text: str, address: int, name: str) -> bytes:
    from sandbox.image.assemble import AssemblyError, assemble_text

    try:
        return assemble_text(text, address)
    except AssemblyError as error:
        raise AssemblyError(re.sub(r"^snippet\.S:", lambda _: f"{name}:", error.summary)) from error
