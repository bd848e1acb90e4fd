"""``sandbox campaign``: images, or seeds of one image, over processes and hosts, to be gone on with at any time."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.cli.machine_options import add_machine_options, machine_config

if TYPE_CHECKING:
    from sandbox.campaign import Item, Progress

KINDS = ("images", "seeds")
EVERY = 5.0
"""Seconds between lines of progress in a file."""
SHOWN = 10
"""Results that are printed of those that are not as they should be."""


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser(
        "campaign", help=title, description=f"{title.capitalize()}. What is done is in FILE; the same command goes on.",
    )  # fmt: skip
    parser.usage = f"{parser.prog} -o FILE [options] {'|'.join(KINDS)} [PATH ...]"
    parser.add_argument("what", choices=KINDS, help="images against their manifests, or one image under many seeds")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="manifests or folders of them; for seeds one image")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="a line of JSON a result")
    parser.add_argument("--seeds", metavar="A-B", help="for seeds: which ones")
    parser.add_argument("-j", "--jobs", type=int, default=0, metavar="N", help="processes (default: one a CPU)")
    parser.add_argument("--scheduler", default="", metavar="ADDRESS", help="a scheduler of dask: tcp://HOST:PORT")
    parser.add_argument("--whole", action="store_true", help="for images: leave out the broken runs")
    parser.add_argument("--json", action="store_true", help="all results as JSON on standard output")
    add_machine_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from sandbox.campaign import Ledger
    from sandbox.campaign import run as run_campaign
    from sandbox.cli.jobs import processes

    jobs, teller = processes("-j", options.jobs), _Teller()
    items = _seeds(options) if options.what == "seeds" else _images(options)
    with Ledger(options.out, items) as ledger:
        try:
            found = run_campaign(items, ledger, jobs=jobs, scheduler=options.scheduler, progress=teller.tell)
        except KeyboardInterrupt:
            done = len(ledger.outcomes())
            print(f"sandbox: {done} of {len(items)} are in {options.out}; the same command goes on", file=sys.stderr)
            raise
    teller.end()
    return _report(options, found)


class _Teller:
    """Progress on standard error: over itself on a terminal, else a line every few seconds."""

    def __init__(self) -> None:
        self._terminal, self._next, self._told = sys.stderr.isatty(), 0.0, False

    def tell(self, progress: Progress) -> None:
        if self._terminal:
            self._told = True
            print(f"{progress.line():60}", end="\r", file=sys.stderr, flush=True)
        elif progress.seconds >= self._next or progress.done == progress.whole:
            self._next = progress.seconds + EVERY
            print(progress.line(), file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._told:
            print(file=sys.stderr)


def _images(options: argparse.Namespace) -> list[Item]:
    from sandbox.campaign.kinds import image_items
    from sandbox.cli.guest_words import refuse_unused
    from sandbox.cli.test import manifests
    from sandbox.runner.target import resolve

    refuse_unused(options, "images", "")
    targets = [resolve(each.path) for each in manifests(options.paths) if not each.helper]
    return image_items(targets, broken=not options.whole)


def _seeds(options: argparse.Namespace) -> list[Item]:
    from sandbox.campaign.kinds import seed_items
    from sandbox.cli.guest_words import refuse_unused
    from sandbox.cli.seeds import parse_seeds
    from sandbox.runner.target import resolve
    from sandbox.x86.errors import ConfigurationError

    refuse_unused(options, "seeds", "")
    if options.whole:
        raise ConfigurationError("--whole: `campaign images` takes it")
    if len(options.paths) != 1 or not options.seeds:
        raise ConfigurationError("campaign seeds: give one IMAGE and --seeds A-B")
    target = resolve(options.paths[0])
    if target.kind == "rom":
        raise ConfigurationError(f"{options.paths[0]}: a ROM image has no kernel whose schedule a seed could choose")
    config = machine_config(options, target)
    if config.cpus == 1:
        raise ConfigurationError("--seeds: with one CPU nobody comes in between", "give --cpus 2, or more")
    return seed_items(target, config, parse_seeds(options.seeds))


def _report(options: argparse.Namespace, found: list[dict[str, Any]]) -> int:
    wrong = _wrong_seeds(found) if options.what == "seeds" else _wrong_images(found)
    if options.json:
        print(json.dumps(found, indent=2))
        return 1 if wrong else 0
    for line in wrong[:SHOWN]:
        print(line)
    if len(wrong) > SHOWN:
        print(f"… and {len(wrong) - SHOWN} more, all in {options.out}")
    print(f"{len(found) - len(wrong)} of {len(found)} as {'most' if options.what == 'seeds' else 'expected'}")
    return 1 if wrong else 0


def _wrong_images(found: list[dict[str, Any]]) -> list[str]:
    lines = []
    for each in found:
        verdicts = [verdict for verdict in each.get("value", []) if not verdict["passed"]]
        for verdict in verdicts[:1]:
            how = f"--break {verdict['switch']}" if verdict["switch"] else "whole"
            failures = verdict["failures"] or ["it passed although the kernel was broken"]
            lines.append(f"{each['key']} {how}: {failures[0]}")
        if "error" in each:
            lines.append(f"{each['key']}: {each['error']}")
    return lines


def _wrong_seeds(found: list[dict[str, Any]]) -> list[str]:
    """Those that end otherwise than most; among equals the first seed's way is the usual one.

    One that has no end (its machine cannot be made, its process died) is never as it should be.
    """
    ends = [json.dumps(each.get("value", each.get("error")), sort_keys=True) for each in found]
    usual = Counter(ends).most_common(1)[0][0] if ends else ""
    return [
        f"seed {int(each['key'])}: {end}"
        for each, end in zip(found, ends, strict=True)
        if end != usual or "value" not in each
    ]
