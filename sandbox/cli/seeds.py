"""``sandbox run --seeds A-B``: one image under many schedules, up to the first that ends otherwise."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from typing import TYPE_CHECKING

from sandbox.cli.interrupts import Interrupts
from sandbox.cli.machine_options import machine_config
from sandbox.x86.errors import ConfigurationError

if TYPE_CHECKING:
    from sandbox.kernel.base.config import KernelConfig
    from sandbox.runner.result import Result
    from sandbox.runner.target import Target

SHOWN = 200
"""Characters of an output that are printed."""


def parse_seeds(text: str) -> range:
    """``A-B``, both included.  Raises ConfigurationError."""
    found = re.fullmatch("([0-9]{1,6})-([0-9]{1,6})", text)
    if found is None or int(found[1]) > int(found[2]):
        raise ConfigurationError(f"--seeds {text}: give A-B, for example 1-100", "a seed has six digits at most")
    return range(int(found[1]), int(found[2]) + 1)


def run_seeds(target: Target, options: argparse.Namespace) -> int:
    """0 when all seeds end alike, 1 at the first that does not, which is told with the command that replays it."""
    from sandbox.records import replace

    seeds = parse_seeds(options.seeds)
    config = machine_config(options, target)
    if config.cpus == 1:
        raise ConfigurationError("--seeds: with one CPU nobody comes in between", "give --cpus 2, or more")
    interrupts = Interrupts()
    first: Result | None = None
    for number, seed in enumerate(seeds, 1):
        result = _one(target, replace(config, seed=seed, races=()), interrupts)
        if result.interrupted:
            print(f"sandbox: interrupted after {number - 1} seeds", file=sys.stderr)
            return interrupts.status
        if first is None:
            first = result
        elif _outcome(result) != _outcome(first):
            _tell_difference(options, seeds[0], first, seed, result)
            return 1
    assert first is not None
    if options.json:
        print(json.dumps({"seeds": [seeds[0], seeds[-1]], "differs": None, "outcome": _as_dict(first)}, indent=2))
    else:
        print(f"seeds {seeds[0]} to {seeds[-1]} end alike: {_words(first)}")
    return 0


def _one(target: Target, config: KernelConfig, interrupts: Interrupts) -> Result:
    from sandbox.kernel.drivers.console import BytesSource
    from sandbox.runner.run import open_session
    from sandbox.runner.session import Streams

    given = target.manifest.stdin.encode() if target.manifest is not None else b""
    with open_session(target, config, Streams(BytesSource(given))) as session:
        interrupts.watch(session.kernel.sched)
        return session.finish()


def _outcome(result: Result) -> tuple[int, int, str, bytes, bytes, list[str]]:
    return result.status, result.signal, result.error, result.stdout, result.stderr, _reported(result)


def _reported(result: Result) -> list[str]:
    """The kinds of a sanitizer's reports, once each: when and where they came depends on the seed."""
    return sorted({each.kind for each in result.sanitizer})


def _words(result: Result) -> str:
    kinds = _reported(result)
    found = f"; reports of the sanitizer: {', '.join(kinds)}" if kinds else ""
    return f"{result.headline()}; standard output {_short(result.stdout)}{found}"


def _short(output: bytes) -> str:
    text = output.decode("utf-8", "backslashreplace")
    return json.dumps(text[:SHOWN], ensure_ascii=False) + (" …" if len(text) > SHOWN else "")


def _as_dict(result: Result) -> dict[str, object]:
    whole = result.to_dict()
    return {key: whole[key] for key in ("status", "signal", "error", "stdout", "stderr", "sanitizer")}


def _tell_difference(options: argparse.Namespace, seed: int, first: Result, other: int, result: Result) -> None:
    replay = _replay(other)
    if options.json:
        found = {"seeds": [seed, other], "differs": other, "outcome": _as_dict(first), "other": _as_dict(result)}
        print(json.dumps({**found, "replay": replay}, indent=2))
        return
    print(f"sandbox: seed {other} ends otherwise than seed {seed}", file=sys.stderr, flush=True)
    for number, each in ((seed, first), (other, result)):
        print(f"  seed {number}: {_words(each)}")
        if each.stderr:
            print(f"           standard error {_short(each.stderr)}")
        if each.detail:
            print("\n".join(f"           {line}" for line in each.detail.splitlines()[:12]))
    print(f"it ends so again: {replay}")


def _replay(seed: int) -> str:
    """The command line with one seed in the place of many."""
    words = ["sandbox", *sys.argv[1:]]
    for at, word in enumerate(words):
        if word == "--seeds":
            words[at : at + 2] = ["--seed", str(seed)]
            break
        if word.startswith("--seeds="):
            words[at] = f"--seed={seed}"
            break
    return shlex.join(words)
