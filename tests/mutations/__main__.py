"""``python -m tests.mutations [IMAGE | IMAGE-N ...]``: which mutations are noticed, and by what.

``python -m tests.mutations --flushes`` prints the table of ``docs/flushes.md``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os import sched_getaffinity

from tests.mutations.flushes import flush_table
from tests.mutations.table import ROOT, Mutant, Mutation, mutations

LIMIT = 120.0
"""Seconds for one mutation: the image in each of its modes, or the named test."""
NOTICED, SURVIVED = 10, 11


def judge(mutation: Mutation) -> tuple[str, str]:
    """In a process of its own: "noticed", "survived" or "invalid", and the first line that tells."""
    arguments = [sys.executable, "-m", "tests.mutations", "--one", mutation.name]
    try:
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return "noticed", f"did not end within {LIMIT:g} s"
    said = (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()
    verdict = {NOTICED: "noticed", SURVIVED: "survived"}.get(done.returncode, "invalid")
    return verdict, said[-1] if verdict == "invalid" else said[0]


def one(name: str) -> int:
    """Apply a mutation here, run what must notice it, and say what did."""
    from tests.mutations.table import install

    mutation = next(each for each in mutations() if each.name == name)
    mutant = install(mutation)
    return _test(mutant) if mutation.test else _image(mutation)


def _test(mutant: Mutant) -> int:
    import pytest

    failed = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-n", "0", str(ROOT / mutant.mutation.test)], [mutant])
    assert failed in (0, 1), f"pytest ended with {failed}"
    return NOTICED if failed else SURVIVED


def _image(mutation: Mutation) -> int:
    from sandbox.runner.target import resolve
    from sandbox.suite.check import Limits, check_image, manifest_of

    target = resolve(ROOT / "images" / mutation.image)
    manifest = target.manifest = replace(manifest_of(target), **mutation.machine)
    sanitize = frozenset({"tlb"} if mutation.sanitize else ())
    for paging in manifest.paging:
        try:
            verdict = check_image(target, paging, limits=Limits(None, LIMIT / 10), sanitize=sanitize)
        except Exception as error:  # a mutated sandbox may fail anyhow: that is noticed, too
            print(f"{paging}: {type(error).__name__}: {error}")
            return NOTICED
        told = {each.kind for each in verdict.result.sanitizer} if verdict.result else set()
        if silent := set(mutation.reports) - told:
            print(f"{paging}: no report of the kind {', '.join(sorted(silent))}")
            return SURVIVED
        if verdict.failures:
            print(f"{paging}: {verdict.failures[0]}")
            return NOTICED
    return SURVIVED


def _chosen(names: Iterable[str]) -> list[Mutation]:
    wanted = set(names)
    return [each for each in mutations() if not wanted or each.image in wanted or each.name in wanted]


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--one"]:
        return one(arguments[1])
    if arguments == ["--flushes"]:
        print(flush_table(), end="")
        return 0
    chosen = _chosen(arguments)
    bad = 0
    with ThreadPoolExecutor(len(sched_getaffinity(0))) as pool:
        for mutation, (verdict, why) in zip(chosen, pool.map(judge, chosen), strict=True):
            bad += verdict != "noticed"
            print(f"{verdict:8}  {mutation.name:24} {mutation.says}\n{'':10}{why}", flush=True)
    print(f"{len(chosen) - bad} of {len(chosen)} noticed")
    return 1 if bad or not chosen else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
