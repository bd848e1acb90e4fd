"""``sandbox explain``: one page fault of a run, from instruction to answer."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from sandbox.cli.guest_words import add_guest_arguments, refuse_unused
from sandbox.cli.machine_options import add_machine_options, add_symbols_option, machine_config

if TYPE_CHECKING:
    from sandbox.debug.bare_view import RomExplanation
    from sandbox.debug.explain import Explanation
    from sandbox.sanitize.report import StaleReport


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser("explain", help=title, description=f"{title.capitalize()}.")
    parser.add_argument("image", help="manifest or its folder, ELF file, or source (.S, .asm, .c)")
    add_guest_arguments(parser)
    parser.add_argument("--fault", type=int, default=1, metavar="N", help="which one, as `run --trace faults` counts")
    parser.add_argument("--json", action="store_true")
    add_symbols_option(parser)
    add_machine_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from sandbox.cli.colour import Colour, columns_of
    from sandbox.cli.run import tell_reports
    from sandbox.debug.explain import explain
    from sandbox.debug.rom_symbols import known
    from sandbox.report.width import wrapped
    from sandbox.runner.run import open_session
    from sandbox.runner.target import resolve

    target = resolve(options.image, options.arguments)
    refuse_unused(options, target.kind, options.image)
    found: Explanation | RomExplanation
    reports: list[StaleReport] = []
    if target.kind == "rom":
        from sandbox.cli.rom import config_of
        from sandbox.debug.bare_view import explain_rom, placed
        from sandbox.runner.rom import RomSession

        with RomSession(target, config_of(target, options)) as rom:
            names = known(target, options.symbols)
            found = placed(rom_story := explain_rom(rom, options.fault), names.name(rom_story.linear))
            reports += rom.reports()
    else:
        known(target, options.symbols)
        with open_session(target, machine_config(options, target)) as session:
            found = explain(session, options.fault)
            reports += session.reports()
    if options.json:
        told = {"sanitizer": [each.to_dict() for each in reports]} if options.sanitize else {}
        print(json.dumps({**found.to_dict(), **told}, indent=2))
        return 1 if reports else 0
    paint = Colour(sys.stdout)
    columns = columns_of(sys.stdout)
    for line in (part for each in found.lines() for part in wrapped(each, columns)):
        head = line.split("  ")[0]
        if line and not line.startswith(" ") and head in ("error", "address", "answer", *_HEADINGS):
            line = line.replace(head, paint("bold", head), 1)
        elif "<- faults" in line or "stops here" in line:
            line = paint("red", line)
        print(line)
    sys.stdout.flush()
    tell_reports(reports)
    return 1 if reports else 0


_HEADINGS = ("the walk that failed", "the walk afterwards")
