"""What ``asm`` and ``disasm`` print: a listing for people, or JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.image.listing import Code, Line


def linear_address(text: str) -> int:
    """A 32-bit linear address from the command line.  Raises ConfigurationError."""
    from sandbox.x86.errors import ConfigurationError
    from sandbox.x86.numbers import parse_address

    try:
        return parse_address(text)
    except ValueError as error:
        raise ConfigurationError(f"--address {text}: {error}") from None


def add_listing_options(parser: argparse.ArgumentParser) -> None:
    """``--address`` and ``--json``."""
    parser.add_argument(
        "--address", type=linear_address, default=None, metavar="ADDRESS", help="linear address of the first byte"
    )
    parser.add_argument("--json", action="store_true")


def show(pieces: Sequence[Code], as_json: bool) -> None:
    """Print the listing of some code."""
    from sandbox.cli.colour import Colour, columns_of
    from sandbox.image.listing import listing
    from sandbox.report.width import fit

    if as_json:
        print(json.dumps([_as_dict(code, line) for code in pieces for line in listing(code)], indent=2))
        return
    paint, columns = Colour(sys.stdout), columns_of(sys.stdout)
    for code in pieces:
        if code.title:
            print("\n" + fit(f"{paint('dim', 'section')} {paint('bold', code.title)}", columns))
        for line in listing(code):
            if line.labels:
                print()
            for label in line.labels:
                print(fit(f"{paint('bold', label)}:", columns))
            refers = f"  {paint('cyan', f'<{line.refers}>')}" if line.refers else ""
            raw = paint("dim", f"{line.raw.hex(chr(32)):30}")
            print(fit(f"  {line.address:08x}  {raw}  {line.text}{refers}", columns))


def _as_dict(code: Code, line: Line) -> dict[str, Any]:
    found: dict[str, Any] = {"address": line.address, "bytes": line.raw.hex(), "text": line.text}
    if code.title:
        found["section"] = code.title
    if line.labels:
        found["labels"] = list(line.labels)
    if line.refers:
        found["refers"] = line.refers
    return found
