"""The images that are made to be debugged fail as they are, and one line mends each of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.cli import main
from sandbox.image.assemble import SOURCES, assemble_source
from sandbox.image.manifest import IMAGES, load

BUGS = SOURCES / "images/bugs"


@dataclass(frozen=True, slots=True)
class Mend:
    """The line of a source that is wrong, the one that is right, and what the image says then."""

    source: str
    old: str
    new: str
    says: str


MENDS = {
    "bug-flush": Mend(
        "flip.c",
        '        asm volatile("invlpg (%0)" : : "r"(address) : "memory");',
        "        flush_tlb_page((void *)address);",
        "bug-flush: both CPUs see the same pictures\n",
    ),
    "bug-cow": Mend("pin.c", "        pinned->count--;\n        return unpin();", "        return unpin();",
                    "bug-cow: the parent has its own page\n"),
    "bug-guard": Mend("guard.c", "        if (used > LOG_SIZE)", "        if (used + length > LOG_SIZE)",
                      "bug-guard: 1000 lines are in the log\n"),
    "bug-user-bit": Mend("user-bit.S", "        mov     eax, esi\n        or      eax, P | RW\n",
                         "        mov     eax, esi\n        or      eax, P | RW | US\n",
                         "the program has counted to 1000\n"),
}  # fmt: skip


def mended(name: str, folder: Path) -> list[str]:
    """Arguments of ``sandbox run`` for the image with its line mended."""
    mend, manifest = MENDS[name], load(IMAGES / name / "manifest.toml")
    text = (BUGS / mend.source).read_text()
    assert text.count(mend.old) == 1
    source = folder / mend.source
    source.write_text(text.replace(mend.old, mend.new))
    if manifest.modules:
        return ["--module", str(source), "--cpus", str(manifest.cpus), str(manifest.image)]
    if manifest.kind != "rom":
        return [str(source)]
    shutil.copy(manifest.path, folder)
    assemble_source(source, folder / manifest.file, "rom", manifest.load)
    return [str(folder)]


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """``run(*arguments)`` of ``sandbox run``: status, standard output, the first line of what it says else."""

    def go(*arguments: str) -> tuple[int, str, str]:
        status = main(["run", *arguments])
        said = capfd.readouterr()
        return status, said.out, said.err.partition("\n")[0]

    return go


def test_each_of_them_is_here() -> None:
    assert {path.parent.name for path in IMAGES.glob("bug-*/manifest.toml")} == MENDS.keys()


@pytest.mark.parametrize("name", MENDS)
def test_it_fails_as_it_is(run: Run, name: str) -> None:
    status, out, err = run(str(IMAGES / name))
    assert status == 1 and MENDS[name].says not in out and err.startswith("sandbox: ")


@pytest.mark.parametrize("name", MENDS)
def test_one_line_mends_it(run: Run, tmp_path: Path, name: str) -> None:
    assert run(*mended(name, tmp_path)) == (0, MENDS[name].says, "")


@pytest.mark.parametrize("seed", range(5))
def test_the_missing_flush_does_not_depend_on_luck(run: Run, seed: int) -> None:
    status, out, _ = run(str(IMAGES / "bug-flush"), "--seed", str(seed))
    assert (status, out) == (1, "bug-flush: the other CPU sees a picture of before\n")


def test_the_host_does_what_the_mended_log_does(tmp_path: Path) -> None:
    """The log of bug-guard, mended, compiled for this host: a thousand lines fit, and not one byte too many."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    mend = MENDS["bug-guard"]
    text = (BUGS / mend.source).read_text().replace(mend.old, mend.new).replace('#include "module.h"', _ON_A_HOST)
    (tmp_path / "host.c").write_text(text)
    made = subprocess.run(
        ["gcc", "-fsanitize=address", "-o", "host", "host.c"], cwd=tmp_path, capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip("gcc has no address sanitizer here")
    done = subprocess.run(["./host"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, mend.says), done.stderr


_ON_A_HOST = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef unsigned u32;
#define PAGE_SIZE 4096u
#define vmalloc malloc
#define vfree free
#define printk printf
#define CHECK(number, condition) if (!(condition)) return number
int init_module(void);
int main(void) { return init_module(); }
"""
