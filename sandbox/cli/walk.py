"""``sandbox walk``: the page walk of an address."""

from __future__ import annotations

import argparse
from typing import Any

from sandbox.cli.stopped import add_stop_options, look, parser_for


def add_parser(commands: Any, title: str) -> None:
    parser = parser_for(commands, "walk", title, "IMAGE ADDRESS [r|w|x]")
    add_stop_options(parser)
    parser.add_argument("address", help="number, register such as $esp, or symbol, with +offset")
    parser.add_argument("access", nargs="?", choices=("r", "w", "x"), default="r", help="read, write or fetch")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    return look(options, f"walk {options.address} {options.access}")
