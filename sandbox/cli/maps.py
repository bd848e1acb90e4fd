"""``sandbox maps``: areas of the program, regions of the kernel and what lies in them."""

from __future__ import annotations

import argparse
import json
from typing import Any

from sandbox.cli.colour import print_lines
from sandbox.cli.machine_options import add_machine_options, add_symbols_option
from sandbox.cli.stopped import look, parser_for, stopped_session


def add_parser(commands: Any, title: str) -> None:
    parser = parser_for(commands, "maps", title, "[IMAGE]")
    parser.add_argument("image", nargs="?", help="what runs on the machine (default: nothing, the kernel alone)")
    parser.add_argument("--at", metavar="WHERE", help="symbol or address to stop at (default: the first instruction)")
    add_symbols_option(parser)
    parser.add_argument("--json", action="store_true")
    add_machine_options(parser)
    parser.set_defaults(run=run, end=False)


def run(options: argparse.Namespace) -> int:
    from sandbox.debug.view import map_dict, map_lines
    from sandbox.runner.target import resolve

    if options.image is not None and resolve(options.image).kind != "module":
        return look(options, "maps")
    with stopped_session(options) as system:
        if options.json:
            print(json.dumps(map_dict(system, None), indent=2))
        else:
            print_lines(map_lines(system, None))
    return 0
