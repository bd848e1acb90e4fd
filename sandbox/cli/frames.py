"""``sandbox frames``: physical memory of a machine: zones, free lists, who has what."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from sandbox.cli.colour import columns_of, print_lines
from sandbox.cli.machine_options import add_machine_options, add_symbols_option
from sandbox.cli.stopped import look, parser_for, stopped_session
from sandbox.x86.errors import ConfigurationError


def add_parser(commands: Any, title: str) -> None:
    parser = parser_for(commands, "frames", title, "[IMAGE]")
    parser.add_argument("image", nargs="?", help="what runs on the machine (default: nothing)")
    parser.add_argument("--at", metavar="WHERE", help="symbol or address to stop at (default: the first instruction)")
    parser.add_argument("--end", action="store_true", help="look when everything has ended")
    add_symbols_option(parser)
    parser.add_argument("--models", action="store_true", help="what each memory model costs, by size of RAM")
    parser.add_argument("--json", action="store_true", help="zones, marks and reserved ranges; not with --models")
    add_machine_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from sandbox.debug.physical import MODELS_WIDE, frame_dict, frame_lines, model_lines
    from sandbox.runner.target import Target, resolve

    if options.models:
        if options.json:
            raise ConfigurationError("--models is a table for people; it has no --json")
        from sandbox.cli.machine_options import machine_config

        config = machine_config(options, Target("none", "program", b""))
        sizes = (config.ram,) if options.ram is not None else ()
        narrow = columns_of(sys.stdout) < MODELS_WIDE
        print_lines(model_lines(config.paging, config.policies["section"], *([sizes] if sizes else []), narrow=narrow))
        return 0
    if options.image is not None and resolve(options.image).kind == "rom":
        if options.end:
            raise ConfigurationError("--end: a ROM is looked at where it stops; give --at")
        return look(options, "info frames")
    with stopped_session(options) as system:
        if options.json:
            print(json.dumps(frame_dict(system.kernel), indent=2))
        else:
            print_lines(frame_lines(system.kernel, columns_of(sys.stdout)))
    return 0
