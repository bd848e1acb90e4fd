"""Each row of the table in the sandbox, in both paging modes, and on this host if it runs i386 programs."""

from __future__ import annotations

import pytest

from sandbox.kernel.config import KernelConfig
from sandbox.kernel.fs.console import BytesSource
from sandbox.runner.result import Result
from sandbox.runner.run import Streams, run_program
from tests.programs.native import native_root, run_native, runs_here
from tests.programs.table import ENVIRONMENT, ROOT, Program, read, unpacked

TABLE = read()
PROGRAMS = {program.name: program for program in TABLE.programs}
SEVERAL = ("sh: pipes", "sh: deep fork tree", "bash: subshells", "sh: background", "bzip2: from a pipe")
"""Rows that also run on three CPUs."""

fetched = pytest.mark.skipif(not unpacked(), reason="no packages: `make programs` fetches them")


def run(program: Program, paging: str, cpus: int = 1) -> Result:
    if program.missing:
        pytest.skip(f"not fetched: {', '.join(program.missing)}")
    path, *arguments = program.argv
    environment = tuple(f"{name}={value}" for name, value in ENVIRONMENT.items())
    config = KernelConfig(paging=paging, cpus=cpus, root=ROOT, environment=environment, time_limit=60)
    streams = Streams(BytesSource(program.stdin.encode()))
    return run_program(path, (ROOT / path.lstrip("/")).read_bytes(), tuple(arguments), config, streams)


def check(program: Program, result: Result) -> None:
    assert not result.error, (result.error, result.detail)
    status = 128 + result.signal if result.signal else result.status
    assert (status, result.stdout.decode(errors="replace")) == (program.status, program.stdout), result.stderr


@fetched
@pytest.mark.parametrize("paging", ["pae", "legacy"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_in_the_sandbox(name: str, paging: str) -> None:
    check(PROGRAMS[name], run(PROGRAMS[name], paging))


@fetched
@pytest.mark.parametrize("name", SEVERAL)
def test_on_three_cpus(name: str) -> None:
    check(PROGRAMS[name], run(PROGRAMS[name], "pae", 3))


@fetched
def test_on_this_host(capsys: pytest.CaptureFixture[str]) -> None:
    ready = [program for program in TABLE.programs if not program.missing]
    with native_root() as root:
        why_not = runs_here(root)
        if why_not:
            pytest.skip(f"i386 programs do not run here: {why_not}")
        seen = {program.name: run_native(root, program) for program in ready}
    differ = {
        program.name: seen[program.name]
        for program in ready
        if seen[program.name] != (program.status, program.stdout.encode())
    }
    with capsys.disabled():
        print(f"\n{len(ready) - len(differ)} of {len(TABLE.programs)} Debian programs match natively")
    assert not differ


def test_every_row_names_packages_of_the_table() -> None:
    known = {package.name for package in TABLE.packages}
    used = {name for program in TABLE.programs for name in program.packages}
    assert used == known
    assert len(PROGRAMS) == len(TABLE.programs)
