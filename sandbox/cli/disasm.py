"""``sandbox disasm``: a program's or object's code with its symbols, a raw file, or bytes given in hexadecimal."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sandbox.cli.listing import add_listing_options


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser("disasm", help=title, description=f"{title.capitalize()}.")
    parser.usage = f"{parser.prog} [options] FILE|HEX"
    parser.add_argument(
        "what", metavar="FILE|HEX", help="ELF file, manifest, source, raw file, or bytes such as '0f 0b c3'"
    )
    add_listing_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from sandbox.cli.listing import show
    from sandbox.image.listing import code_of
    from sandbox.x86.errors import ConfigurationError

    data, name, address = _read(options.what)
    pieces = code_of(data, name, address if options.address is None else options.address)
    if not any(each.data for each in pieces):
        raise ConfigurationError(f"{name}: no code in it")
    show(pieces, options.json)
    return 0


def _read(what: str) -> tuple[bytes, str, int]:
    """Bytes, their name for messages, and their own address.  Raises what cannot be read."""
    from sandbox.image.files import read_file
    from sandbox.runner.target import NoSuchImage, resolve

    path = Path(what)
    if _exists(path):
        if path.is_dir() or path.suffix in (".toml", ".S", ".s", ".asm", ".c"):
            target = resolve(path)
            load = target.manifest.load if target.manifest is not None and target.kind == "rom" else 0
            return target.data, target.name, load
        return read_file(path), path.name, 0
    try:
        return bytes.fromhex(what.replace("0x", "").replace(",", " ")), "these bytes", 0
    except ValueError:
        raise NoSuchImage(f"{what[:60]}: neither a file nor bytes in hexadecimal") from None


def _exists(path: Path) -> bool:
    try:
        return path.exists() and path != Path()
    except (OSError, ValueError):
        # Bytes in hexadecimal may be too long for a name.
        return False
