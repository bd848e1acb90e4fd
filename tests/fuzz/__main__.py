"""``python -m tests.fuzz [KIND …] [--count N] [--seed S] [--jobs J]``: what inputs come to, and findings to keep."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.fuzz import kinds
from tests.fuzz.chunks import Finding, Seen, chunks, run_chunk

SHARES = {
    "elf": 15, "vector": 3, "parser": 2, "module": 10, "code": 15, "calls": 15, "bare": 20,
    "manifest": 5, "machine": 5, "debug": 3, "recording": 3, "snippet": 3, "moo": 1,
}  # fmt: skip
"""Of a hundred inputs."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(kinds.KINDS)} (default: all)")
    parser.add_argument("--count", type=int, default=2000, help="inputs of all kinds together")
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--show", action="store_true", help="print the input of KIND and --seed as JSON, and how it ends"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write each finding's input there")
    options = parser.parse_args()
    unknown = set(options.kinds) - set(kinds.KINDS)
    if unknown:
        parser.error(f"no kind is called {min(unknown)}")
    if options.show:
        return _show(options.kinds[0], options.seed)
    seen = _run(options.kinds or list(kinds.KINDS), options.seed, options.count, options.jobs, options.keep)
    return 1 if seen.findings else 0


def _show(kind: str, seed: int) -> int:
    import tempfile

    made = kinds.draw(kind, seed)
    print(json.dumps({"kind": kind, "input": made}, indent=1))
    with tempfile.TemporaryDirectory() as folder:
        end, wrong = kinds.outcome(kind, made, kinds.world(Path(folder)))
    print(end, wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


def _run(names: list[str], first: int, count: int, jobs: int, keep: Path | None) -> Seen:
    whole = sum(SHARES[name] for name in names)
    parts = {name: list(chunks(name, first, -(-count * SHARES[name] // whole))) for name in names}
    work = [(name, piece) for name in names for piece in parts[name]]
    work.sort(key=lambda each: (parts[each[0]].index(each[1]) + 1) / len(parts[each[0]]))  # all kinds side by side
    total, all_of_it, began = Counter[str](), Seen(), time.monotonic()
    with ProcessPoolExecutor(jobs) as pool:
        try:
            for (name, piece), part in zip(work, pool.map(run_chunk, *zip(*work, strict=True)), strict=True):
                total[name] += len(piece)
                all_of_it.ends += Counter({f"{name}: {end}": number for end, number in part.ends.items()})
                all_of_it.findings += part.findings
                for each in part.findings:
                    _tell(each, keep)
                rate, found = sum(total.values()) / (time.monotonic() - began), len(all_of_it.findings)
                print(f"{sum(total.values()):7} inputs, {rate:.0f} a second, {found} findings", flush=True)
        except KeyboardInterrupt:  # what there is is told; the chunks that are at work end with it
            pool.shutdown(wait=False, cancel_futures=True)
    for end, number in sorted(all_of_it.ends.items()):
        print(f"{number:8}  {end}")
    print(*(f"{name} {number:,}" for name, number in total.items()), sep=", ", flush=True)
    return all_of_it


def _tell(found: Finding, keep: Path | None) -> None:
    print(f"FOUND {found.kind} --seed {found.seed}\n    " + found.what.replace("\n", "\n    "), flush=True)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        made = {"kind": found.kind, "why": found.what.splitlines()[-1], "input": kinds.draw(found.kind, found.seed)}
        (keep / f"{found.kind}-{found.seed}.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
