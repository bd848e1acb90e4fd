"""``--engine``: the host's own floating point or Unicorn's; a process has one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.engine import stubs

INEXACT = """.intel_syntax noprefix
.globl _start
_start: fninit
 fld1
 fldpi
 fdivp st(1), st
 fnstsw ax
 movzx ebx, al
 mov eax, 1
 int 0x80
"""
"""Ends with the exception flags of 1/pi: PE, 32 (SDM 1, 8.1.3), which the engine's own helper never sets."""


def sandbox(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sandbox", *words], capture_output=True, text=True, check=False)


@pytest.mark.skipif(not stubs.native_host(), reason="the mends are x86-64 Linux code")
@pytest.mark.parametrize(("words", "status"), [([], 32), (["--engine", "mended"], 32), (["--engine", "stock"], 0)])
def test_the_engine_of_a_run(tmp_path: Path, words: list[str], status: int) -> None:
    source = tmp_path / "inexact.S"
    source.write_text(INEXACT)
    done = sandbox("run", "--status", *words, str(source))
    assert (done.returncode, done.stdout) == (status, ""), done.stderr


def test_a_rom_and_the_suite_take_it_too() -> None:
    assert sandbox("run", "--engine", "stock", "images/rom-large-pages").returncode == 0
    assert "0 failed" in sandbox("test", "--engine", "stock", "--whole", "images/demand-zero").stdout


@pytest.mark.parametrize(("engine", "status"), [("stock", 0), ("mended", 32)])
def test_the_processes_of_a_campaign_compute_with_it(tmp_path: Path, engine: str, status: int) -> None:
    source, kept = tmp_path / "inexact.S", str(tmp_path / "kept")
    source.write_text(INEXACT)
    words = ("seeds", str(source), "--seeds", "1-2", "--cpus", "2", "--engine", engine, "--json", "-o", kept)
    done = sandbox("campaign", *words)
    assert [each["value"]["status"] for each in json.loads(done.stdout)] == [status, status], done.stderr


def test_another_word_is_a_usage_error() -> None:
    done = sandbox("run", "--engine", "own", "images/rom-large-pages")
    assert done.returncode == 2 and "mended" in done.stderr


@pytest.mark.skipif(not stubs.native_host(), reason="the mends are x86-64 Linux code")
def test_the_doctor_says_what_is_mended() -> None:
    checks = json.loads(sandbox("doctor", "--json").stdout)
    found = {check["name"]: check for check in checks if check["group"] == "mends"}
    assert all(check["passed"] and not check["needed"] for check in found.values())
    assert found["x87"]["seen"].startswith("78 helpers: ") and found["MMX and SSE"]["seen"].startswith("106 helpers: ")
    assert {"encodings", "alignment", "ICEBP and RDPMC"} <= set(found)
    assert all("; costs " in check["detail"] for check in found.values())


FAKES = {
    "another host": (
        "import os\nwas = os.uname()\nos.uname = lambda: os.uname_result((*was[:4], 'aarch64'))\n",
        "it takes host code for x86-64 Linux",
    ),
    "another wheel": (
        "from sandbox.engine import mends\n"
        "def search(helpers): raise mends.UnknownEngine('the engine has no table of helpers')\n"
        "mends._hinted, mends.search = lambda functions: {}, search\n",
        "the engine has no table of helpers",
    ),
    "a library that hides its names": (
        "from sandbox.engine import internals\n"
        "def symbol(name): raise internals.UnknownEngine(f'the engine does not export {name}')\n"
        "internals.symbol = symbol\n",
        "it takes the wheel of PyPI: the engine does not export",
    ),
    "a library that was built otherwise": (
        "from sandbox.engine import internals\ninternals._PROLOGUE = bytes(8)\n",
        "it takes the wheel of PyPI: the engine's load helper is not where",
    ),
}


@pytest.mark.skipif(not stubs.native_host(), reason="the mends are x86-64 Linux code")
@pytest.mark.parametrize("name", FAKES)
def test_it_goes_on_without(name: str, tmp_path: Path) -> None:
    """On a host that is not x86-64, and with a wheel that differs: the doctor says why, and programs run."""
    fake, reason = FAKES[name]
    source = tmp_path / "inexact.S"
    source.write_text(INEXACT)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        code = f"{fake}import sys\nfrom sandbox.cli import main\nsys.exit(main({list(words)!r}))"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    checks = json.loads(run("doctor", "--json").stdout)
    (found,) = [check for check in checks if check["group"] == "mends" and check["name"] == "none"]
    assert not found["passed"] and not found["needed"] and reason in found["seen"]
    done = run("run", "--status", str(source))
    assert (done.returncode, done.stderr) == (0, "")
    tested = run("test", "images/cow-fork")
    assert (tested.returncode, tested.stderr) == (0, "") and ", 0 failed" in tested.stdout
