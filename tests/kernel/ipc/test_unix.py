"""Sockets of the local family against Linux, line by line: results, errno, what poll says, what comes beside the bytes.

``unix/*.txt`` is what Linux 6.18 printed for each section of ``unix.c``, through socketcall(102) and through the calls
of their own alike; both are compared with it here, and so is this machine's kernel where it is a new one.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import run_program
from tests.kernel.calls import is_native_root

HERE = Path(__file__).parent
SECTIONS = sorted(path.stem for path in (HERE / "unix").glob("*.txt"))
ENTRIES = {"socketcall": (), "direct": ("direct",)}


NEW_KERNEL = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64" or int(platform.release().split(".")[0]) < 6,
    reason="the sizes of messages and the order of some checks are those of a new kernel on x86-64",
)
SEEDS, STEPS = range(1, 7), 1500


def compiled(name: str, folder: Path) -> Path:
    """A program, linked with the host's C library."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc")
    target = folder / name
    command = [compiler, "-m32", "-static", "-O1", "-w", "-o", str(target), str(HERE / f"{name}.c")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs gcc -m32 and a static C library")
    return target


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled("unix", tmp_path_factory.mktemp("unix"))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled("history", tmp_path_factory.mktemp("history"))


def in_the_sandbox(program: Path, *arguments: str) -> list[str]:
    result = run_program(program.name, program.read_bytes(), arguments, KernelConfig(time_limit=60.0))
    assert (result.error, result.signal) == ("", 0), result.headline()
    return result.stdout.decode().splitlines()


def on_this_machine(program: Path, *arguments: str) -> list[str]:
    command = [program, *arguments]
    found = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60, check=True)
    return found.stdout.decode().splitlines()


def wanted(section: str) -> str:
    return (HERE / "unix" / f"{section}.txt").read_text()


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("section", SECTIONS)
def test_every_result_is_that_of_linux(built: Path, section: str, entry: str) -> None:
    assert in_the_sandbox(built, section, *ENTRIES[entry]) == wanted(section).splitlines()


@NEW_KERNEL
@pytest.mark.parametrize("section", SECTIONS)
def test_this_machine_agrees(built: Path, section: str) -> None:
    if section in ("creds", "rights", "interrupted", "limits") and not is_native_root():
        pytest.skip("other users' ids are given and taken")
    assert on_this_machine(built, section) == wanted(section).splitlines()


@NEW_KERNEL
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_history_is_that_of_this_machine(history: Path, seed: int) -> None:
    arguments = str(seed), str(STEPS)
    assert in_the_sandbox(history, *arguments) == on_this_machine(history, *arguments)
