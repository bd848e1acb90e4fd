"""``sandbox doctor``: the engine, the tools and this host."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from sandbox.records import asdict

if TYPE_CHECKING:
    from sandbox.suite.health import Check


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser("doctor", help=title, description=f"{title.capitalize()}.")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from sandbox.cli.colour import Colour, columns_of
    from sandbox.suite.health import checks

    found = []
    paint, columns = Colour(sys.stdout), columns_of(sys.stdout)
    for check in checks():
        found.append(check)
        if not options.json:
            mark = paint("green", "ok") if check.passed else paint("red" if check.needed else "yellow", "--")
            print(*_lines(f"{mark}  {check.group:9} {check.name:20} ", check, columns), sep="\n")
    failed = [check for check in found if not check.passed and check.needed]
    if options.json:
        print(json.dumps([asdict(check) for check in found], indent=2))
    else:
        print(f"{len(found)} checks; of what the sandbox needs {len(failed) or 'nothing'} failed")
    return 3 if failed else 0


def _lines(head: str, check: Check, columns: int) -> list[str]:
    """The finding at length on a terminal that has room for it, else in a few words."""
    from sandbox.cli.colour import UNBOUNDED
    from sandbox.report.width import shown, width

    if check.detail and width(head + check.detail) <= columns < UNBOUNDED:
        return [head + check.detail]
    return shown(head + check.seen, columns)
