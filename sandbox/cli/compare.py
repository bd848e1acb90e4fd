"""``sandbox compare``: the same work under each of several mechanisms, and what it cost."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.records import asdict

if TYPE_CHECKING:
    from sandbox.runner.kmapcost import Measured

WORK_NAMES = ("copy", "storm", "read", "threads", "processes")
"""A copy, so that parsing options imports no kernel."""
PLOTTED = {"pte_stores": "entries stored", "invlpg": "INVLPG", "ipis": "interrupts to other CPUs"}


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser(
        "compare",
        help=title,
        description="Run one work on machines whose kernels differ in how they reach pages of highmem, and count.",
    )
    parser.usage = f"{parser.prog} [options] kmap"
    parser.add_argument("what", choices=("kmap",), help="pool, kmap and kmap_atomic, as far as this kernel has them")
    parser.add_argument("--pages", type=int, default=4096, metavar="N", help="pages of the work (default: 4096)")
    parser.add_argument("--paging", choices=("pae", "legacy"), default="pae", help="three or two levels (default: pae)")
    parser.add_argument("--ram", default="256M", metavar="SIZE", help="of which half is highmem (default: 256M)")
    parser.add_argument("--cpus", type=int, default=2, metavar="N", help="1 to 8 (default: 2)")
    parser.add_argument(
        "--slots",
        type=int,
        default=0,
        metavar="N",
        help="pages that the kva pool holds (default: as the layout has it)",
    )
    parser.add_argument("--work", action="append", default=[], choices=WORK_NAMES, help="only this one")
    parser.add_argument("--json", action="store_true", help="counts and claims as JSON on standard output")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="a picture of the counts")
    parser.add_argument(
        "--time-limit", type=float, default=60.0, metavar="SECONDS", help="of host time for each run (default: 60)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from sandbox.cli.interrupts import Interrupts
    from sandbox.cli.machine_options import parse_count
    from sandbox.report.kmapclaims import claims, to_dicts
    from sandbox.report.kmapcompare import claim_lines, tables
    from sandbox.runner.kmapcost import WORKS, Stopped, available, compare_config, measure

    ram = parse_count(options.ram) or 0
    config = compare_config(options.paging, ram, options.cpus, options.pages, options.time_limit, options.slots)
    _check_svg(options.svg)
    interrupts, found = Interrupts(), []
    try:
        for work in options.work or WORKS:
            for mechanism in available():
                found.append(measure(mechanism, work, config, options.pages, interrupts.watch))
    except Stopped:
        print("sandbox: interrupted", file=sys.stderr)
        return interrupts.status
    judged = claims(found)
    if options.svg is not None:
        _write_svg(options.svg, found)
    if options.json:
        machine = {"paging": config.paging, "ram": ram, "cpus": config.cpus, "boot": config.boot}
        runs = [{"mechanism": each.mechanism, "work": each.work, **asdict(each.cost)} for each in found]
        print(
            json.dumps({"machine": machine, "pages": options.pages, "runs": runs, "claims": to_dicts(judged)}, indent=2)
        )
        return 0
    print(f"{options.pages:,} pages, {config.cpus} CPUs, {config.paging}, {ram >> 20} MB, {config.boot}\n")
    print("\n".join([*tables(found), *claim_lines(judged)]))
    return 0


def _check_svg(path: Path | None) -> None:
    """Raises ConfigurationError before anything runs."""
    from sandbox.cli.places import check_place

    if path is not None:
        check_place("--svg", path)


def _write_svg(path: Path, found: list[Measured]) -> None:
    from sandbox.report.barplot import bar_plot
    from sandbox.runner.kmapcost import MECHANISMS, WORKS
    from sandbox.x86.errors import ConfigurationError

    groups = [
        (
            f"{WORKS[work]}: {title}",
            [(MECHANISMS[each.mechanism][0], getattr(each.cost, name)) for each in found if each.work == work],
        )
        for work in dict.fromkeys(each.work for each in found)
        for name, title in PLOTTED.items()
    ]
    try:
        path.write_text(bar_plot("Reaching pages of highmem (logarithmic)", groups))
    except OSError as error:
        raise ConfigurationError(f"--svg {path}: {error.strerror}") from error
