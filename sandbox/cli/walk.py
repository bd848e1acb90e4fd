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
    parser.add_argument("--as", dest="who", choices=("user", "supervisor"), help="whose access (default: the guest's)")
    parser.add_argument("--cr3", metavar="VALUE", help="by other tables than the present ones")
    parser.add_argument("--mm", metavar="PID", help="by those of a task")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    clauses = (("as", options.who), ("cr3", options.cr3), ("mm", options.mm))
    asked = "".join(f" {word} {value}" for word, value in clauses if value is not None)
    return look(options, f"walk {options.address} {options.access}{asked}")
