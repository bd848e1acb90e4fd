"""Each row of the table in the sandbox, in both paging modes, and on this host if it runs i386 programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.engine.stubs import native_host
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.drivers.console import BytesSource
from sandbox.runner.result import Result
from sandbox.runner.run import Streams, run_program
from tests.programs.native import native_root, run_native, runs_here
from tests.programs.table import ENVIRONMENT, ROOT, Program, read

TABLE = read()
PROGRAMS = {program.name: program for program in TABLE.programs}
SECONDS = 60
SEVERAL = [program.name for program in TABLE.programs if program.cpus > 1]
Record = Callable[[str, object], None]
"""Pytest's record_property: the summary at the end of the tests is made of it."""


def run(program: Program, paging: str, cpus: int = 1, **changes: Any) -> Result:
    if program.missing:
        pytest.skip(f"not fetched: {', '.join(program.missing)}")
    path, *arguments = program.argv
    environment = tuple(f"{name}={value}" for name, value in ENVIRONMENT.items())
    files: dict[str, bytes | Path] = {name: text.encode() for name, text in program.files.items()}
    changes.setdefault("time_limit", SECONDS)
    config = KernelConfig(paging=paging, cpus=cpus, root=ROOT, environment=environment, files=files, **changes)
    streams = Streams(BytesSource(program.stdin.encode()))
    return run_program(path, (ROOT / path.lstrip("/")).read_bytes(), tuple(arguments), config, streams)


def check(program: Program, result: Result) -> None:
    assert not result.error, (result.error, result.detail)
    status = 128 + result.signal if result.signal else result.status
    output, errors = (text.decode(errors="replace") for text in (result.stdout, result.stderr))
    assert (status, output, errors) == (program.status, program.stdout, program.stderr)


@pytest.mark.parametrize("paging", ["pae", "legacy"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_in_the_sandbox(name: str, paging: str, record_property: Record) -> None:
    record_property("program", (name, "not fetched" if PROGRAMS[name].missing else "failed"))
    check(PROGRAMS[name], run(PROGRAMS[name], paging))
    record_property("program", (name, "passed"))


@pytest.mark.parametrize("name", SEVERAL)
def test_on_several_cpus(name: str) -> None:
    check(PROGRAMS[name], run(PROGRAMS[name], "pae", PROGRAMS[name].cpus))


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.skipif(not native_host(), reason="the sanitizer's feed is x86-64 Linux code")
@pytest.mark.parametrize("name", PROGRAMS)
def test_under_the_sanitizer(name: str) -> None:
    """As printed and as it ends, on two CPUs, and no stale translation is told of."""
    program = PROGRAMS[name]
    result = run(program, "pae", max(2, program.cpus), sanitize=frozenset({"tlb"}), time_limit=5 * SECONDS)
    assert result.sanitizer == []
    check(program, result)


def test_on_this_host(record_property: Record) -> None:
    ready = [program for program in TABLE.programs if not program.missing]
    record_property("natively", (0, len(PROGRAMS), "none is here"))
    if not ready:
        pytest.skip("no packages: `make programs` fetches them")
    with native_root() as root:
        why_not = runs_here(root)
        if why_not:
            record_property("natively", (0, len(PROGRAMS), why_not))
            pytest.skip(f"i386 programs do not run here: {why_not}")
        seen = {program.name: run_native(root, program) for program in ready}
    differ = {
        program.name: seen[program.name]
        for program in ready
        if seen[program.name] != (program.status, program.stdout, program.stderr)
    }
    record_property("natively", (len(ready) - len(differ), len(PROGRAMS), ""))
    assert not differ


def test_every_row_names_packages_of_the_table() -> None:
    known = {package.name for package in TABLE.packages}
    used = {name for program in TABLE.programs for name in program.packages}
    assert used == known
    assert len(PROGRAMS) == len(TABLE.programs)
