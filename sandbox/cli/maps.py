"""``sandbox maps``: areas of the program, regions of the kernel."""

from __future__ import annotations

import argparse
from typing import Any

from sandbox.cli.stopped import add_stop_options, look, parser_for


def add_parser(commands: Any, title: str) -> None:
    parser = parser_for(commands, "maps", title)
    add_stop_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    return look(options, "maps")
