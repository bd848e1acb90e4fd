"""``python -m benchmarks``: one table; exit status 1 when a bar is missed."""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks import (
    debug,
    faults,
    fpu,
    growth,
    highmem,
    images,
    kernelmemory,
    linux,
    loops,
    memory,
    others,
    semantics,
    shadowtlb,
    startup,
    threads,
)
from benchmarks.measure import Row, table

SECTIONS = {
    "loops": loops.rows,
    "fpu": fpu.rows,
    "faults": faults.rows,
    "startup": startup.rows,
    "growth": growth.rows,
    "images": images.rows,
    "memory": memory.rows,
    "kernelmemory": kernelmemory.rows,
    "threads": threads.rows,
    "highmem": highmem.rows,
    "linux": linux.rows,
    "shadowtlb": shadowtlb.rows,
    "debug": debug.rows,
    "semantics": semantics.rows,
    "others": others.rows,
}


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--json", action="store_true", help="the rows as JSON on standard output")
    options = parser.parse_args()
    unknown = set(options.sections) - SECTIONS.keys()
    if unknown:
        parser.error(f"no section {min(unknown)!r}: known are {', '.join(SECTIONS)}")
    rows: list[Row] = []
    for name, section in SECTIONS.items():
        if not options.sections or name in options.sections:
            print(f"measuring {name} ...", file=sys.stderr)
            rows.extend(section())
    print(json.dumps([row.to_dict() for row in rows], indent=2) if options.json else table(rows))
    return 1 if any(row.verdict == "short" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
