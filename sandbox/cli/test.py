"""``sandbox test``: images against their manifests."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.cli.machine_options import add_engine_option

if TYPE_CHECKING:
    from sandbox.image.manifest import Manifest
    from sandbox.runner.target import Target
    from sandbox.suite.check import Verdict

PR_SET_PDEATHSIG = 1


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser(
        "test",
        help=title,
        description="Run images in the paging modes of their manifests, whole, and with the kernel switch under which "
        "they must fail.",
    )
    parser.usage = f"{parser.prog} [options] [PATH ...]"
    parser.add_argument("paths", nargs="*", metavar="PATH", help="manifests or folders of them (default: images)")
    parser.add_argument("--whole", action="store_true", help="leave out the broken runs")
    parser.add_argument("--update", action="store_true", help="write status and output that were seen into manifests")
    parser.add_argument("--json", action="store_true", help="the verdicts as JSON on standard output")
    parser.add_argument(
        "-j", "--jobs", type=int, default=1, metavar="N", help="run N images at a time (default: 1; 0 for one a CPU)"
    )
    parser.add_argument(
        "--sanitize", action="append", default=[], metavar="WHAT", choices=("tlb",),
        help="in whole runs, watch for stale translations (tlb); a report is a failure",
    )  # fmt: skip
    add_engine_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from sandbox.cli.colour import Colour, columns_of
    from sandbox.cli.jobs import processes
    from sandbox.runner.target import resolve

    options.jobs = processes("-j", options.jobs)
    paint, columns = Colour(sys.stdout), columns_of(sys.stdout)
    targets = [resolve(manifest.path) for manifest in manifests(options.paths) if not manifest.helper]
    verdicts: list[Verdict] = []
    for target, found in _checked(targets, not options.whole, options.jobs, frozenset(options.sanitize)):
        verdicts += found
        if not options.json:
            for verdict in found:
                print("\n".join(_lines(verdict, paint, columns)))
        if options.update and target.manifest is not None and found[0].paging == target.manifest.paging[0]:
            _update(target.manifest, found[0])
    failed = sum(not verdict.passed for verdict in verdicts)
    if options.json:
        print(json.dumps([_as_dict(verdict) for verdict in verdicts], indent=2))
    else:
        print(f"{len(verdicts) - failed} passed, {failed} failed")
    return 1 if failed or not verdicts else 0


def _checked(
    targets: list[Target], broken: bool, jobs: int, sanitize: frozenset[str]
) -> Iterator[tuple[Target, list[Verdict]]]:
    """Each target in each of its paging modes, in order, by so many processes."""
    from sandbox.suite.check import manifest_of

    work = [(target, paging, broken, sanitize) for target in targets for paging in manifest_of(target).paging]
    jobs = min(jobs, len(work))
    if jobs <= 1:
        yield from ((each[0], _check(each)) for each in work)
        return
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(jobs, initializer=_begin_worker) as pool:
        yield from zip((each[0] for each in work), pool.map(_check, work), strict=True)


def _begin_worker() -> None:
    """Ctrl-C is for the process that prints; the others end what they are at, and do not outlive it."""
    import ctypes

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _check(work: tuple[Target, str, bool, frozenset[str]]) -> list[Verdict]:
    """Whole and broken, without the recorded faults, which nobody reads any more."""
    from sandbox.suite.check import check_both

    target, paging, broken, sanitize = work
    found = check_both(target, paging, broken=broken, sanitize=sanitize)
    for verdict in found:
        if verdict.result is not None:
            verdict.result.faults.clear()
    return found


def manifests(paths: list[str]) -> list[Manifest]:
    """What paths name, the whole collection for none.  Raises NoSuchImage, ManifestError."""
    from sandbox.image.manifest import load
    from sandbox.runner.target import NoSuchImage, in_collection, on_disk

    found = []
    for each in paths or ["images"]:
        path = in_collection(Path(each))
        if not on_disk(path):
            raise NoSuchImage(f"{each}: no manifest there")
        if path.is_dir():
            inner = [path / "manifest.toml"] if (path / "manifest.toml").exists() else []
            names = inner or sorted(path.glob("*/manifest.toml"))
        else:
            names = [path]
        if not names:
            raise NoSuchImage(f"{each}: no manifest there")
        found += [load(name) for name in names]
    return found


def _lines(verdict: Verdict, paint: Any, columns: int) -> list[str]:
    from sandbox.report.width import fit, shown

    mark = paint("green", "pass") if verdict.passed else paint("red", "FAIL")
    how = f"--break {verdict.switch}" if verdict.switch else "whole"
    lines = [fit(f"{mark}  {verdict.name:24} {verdict.paging:7} {how}", columns)]
    if not verdict.passed:
        for line in verdict.failures or ["it passed although the kernel was broken"]:
            lines += [part for row in line.splitlines() for part in shown(f"      {row}", columns)]
    return lines


def _as_dict(verdict: Verdict) -> dict[str, Any]:
    return {
        "image": verdict.name,
        "paging": verdict.paging,
        "switch": verdict.switch or None,
        "passed": verdict.passed,
        "failures": verdict.failures,
    }


def _update(manifest: Manifest, verdict: Verdict) -> None:
    from sandbox.image.manifest import set_values

    if verdict.result is not None:
        text = verdict.result.stdout.decode("utf-8", "replace")
        values = {"status": str(verdict.result.status), "stdout": json.dumps(text, ensure_ascii=False)}
        set_values(manifest.path, "expect", values)
