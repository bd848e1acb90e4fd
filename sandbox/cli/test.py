"""``sandbox test``: images against their manifests."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.image.manifest import Manifest
    from sandbox.suite.check import Verdict


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser(
        "test",
        help=title,
        description="Run images in the paging modes of their manifests, whole, and with the kernel switch under which "
        "they must fail.",
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="manifests or folders of them (default: images)")
    parser.add_argument("--whole", action="store_true", help="leave out the broken runs")
    parser.add_argument("--update", action="store_true", help="write status and output that were seen into manifests")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from sandbox.cli.colour import Colour
    from sandbox.runner.target import resolve
    from sandbox.suite.check import check_image

    paint = Colour(sys.stdout)
    verdicts: list[Verdict] = []
    for manifest in _manifests(options.paths):
        if manifest.helper:
            continue
        target = resolve(manifest.path)
        for paging in manifest.paging:
            switches = [""] if options.whole or not manifest.switch else ["", manifest.switch]
            for switch in switches:
                verdict = check_image(target, paging, switch)
                verdicts.append(verdict)
                if not options.json:
                    _print(verdict, paint)
        if options.update:
            _update(manifest, verdicts[-len(manifest.paging) * len(switches)])
    failed = sum(not verdict.passed for verdict in verdicts)
    if options.json:
        print(json.dumps([_as_dict(verdict) for verdict in verdicts], indent=2))
    else:
        print(f"{len(verdicts) - failed} passed, {failed} failed")
    return 1 if failed or not verdicts else 0


def _manifests(paths: list[str]) -> list[Manifest]:
    from sandbox.image.manifest import load
    from sandbox.runner.target import NoSuchImage, on_disk

    found = []
    for each in paths or ["images"]:
        path = Path(each)
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


def _print(verdict: Verdict, paint: Any) -> None:
    mark = paint("green", "pass") if verdict.passed else paint("red", "FAIL")
    how = f"--break {verdict.switch}" if verdict.switch else "whole"
    print(f"{mark}  {verdict.name:24} {verdict.paging:7} {how}")
    if not verdict.passed:
        for line in verdict.failures or ["it passed although the kernel was broken"]:
            print(f"      {line}")


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

    if verdict.result is not None and not verdict.switch:
        text = verdict.result.stdout.decode("utf-8", "replace")
        values = {"status": str(verdict.result.status), "stdout": json.dumps(text, ensure_ascii=False)}
        set_values(manifest.path, "expect", values)
