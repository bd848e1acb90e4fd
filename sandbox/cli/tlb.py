"""``sandbox tlb``: what a CPU's TLB may hold, beside what the tables say."""

from __future__ import annotations

import argparse
from typing import Any

from sandbox.cli.stopped import add_stop_options, look, parser_for


def add_parser(commands: Any, title: str) -> None:
    parser = parser_for(commands, "tlb", title, "IMAGE [CPU]")
    add_stop_options(parser)
    parser.add_argument("cpu", nargs="?", metavar="CPU", help="its number (default: the one that stops)")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    return look(options, f"tlb {options.cpu or ''}".strip(), watched=True)
