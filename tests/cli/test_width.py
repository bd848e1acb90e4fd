"""On a terminal of 80 columns nothing is wider than 80, what is cut is marked, and colour can be turned off."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.cli.test_cli import Files, elf  # noqa: F401


def on_terminal(words: list[str], columns: int, **environment: str) -> list[str]:
    """What a command shows on a pseudo terminal of so many columns, line by line."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    settings = {**os.environ, "TERM": "xterm", **environment}
    settings.pop("NO_COLOR", None) if "NO_COLOR" not in environment else None
    command = [sys.executable, "-m", "sandbox", *words]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=settings) as process:
        os.close(slave)
        shown = b""
        try:
            while piece := os.read(master, 4096):
                shown += piece
        except OSError:
            pass
        process.wait(60)
    os.close(master)
    return shown.decode().splitlines()


VIEWS = [["run", "images/cow-fork", "--trace", "faults"], ["images"], ["explain", "images/cow-fork", "--fault", "3"]]


@pytest.mark.parametrize("words", VIEWS)
@pytest.mark.parametrize("columns", [80, 100])
def test_everything_fits(words: list[str], columns: int) -> None:
    lines = on_terminal(words, columns, NO_COLOR="1")
    assert lines
    assert max(map(len, lines)) <= columns
    if words[0] != "explain" and columns == 80:
        assert any("…" in line for line in lines)


def test_a_narrow_trace() -> None:
    """The header too, which no line of the trace need be as wide as."""
    lines = on_terminal(["run", "images/cow-fork", "--trace", "faults"], 50, NO_COLOR="1")[:-1]
    assert lines[0].startswith(" no.") and max(map(len, lines)) <= 50


KINDS = "faults,calls,tasks,tlb,map,alloc,modules,ports"
LISTINGS = [
    ["run", "images/cow-fork", "--trace", KINDS], ["run", "images/cow-fork", "--stats", "--ram", "4G"],
    ["run", "--strace", "images/broken-pipe"], ["run", "images/rom-pae-high", "--trace", "faults,ports"],
    ["run", "images/vmalloc-sync", "--trace", KINDS], ["maps", "images/cow-fork"], ["frames", "--ram", "6G"],
    ["frames", "--policy", "orders=11"], ["frames", "--models"], ["walk", "images/cow-fork", "_start", "--ram", "6G"],
    ["explain", "images/cow-fork", "--fault", "4", "--ram", "6G"], ["explain", "images/rom-pae-high"],
    ["test", "images/cow-fork"], ["disasm", "images/cow-fork"], ["doctor"],
    ["semantics", "x87", "--engine", "stock", "--count", "300", "--jobs", "1"],
    ["debug", "images/cow-fork", *(each for command in ("regs", "maps", "tasks", "code", "help", "x _start", "catch",
                                                       "continue", "walk _start", "help catch",
                                                       "info tss") for each in ("-e", command))],
]  # fmt: skip


def test_a_trap_that_fits_no_line_goes_on_below_its_place() -> None:
    """Nothing is torn: the instruction stands beside its place, what it raised below."""
    lines = on_terminal(["run", "images/rom-write-protect", "--trace", "faults"], 80, NO_COLOR="1")
    assert max(map(len, lines)) <= 80
    at = next(number for number, line in enumerate(lines) if line.endswith("001001fb  mov dword ptr [0x40000000], 2"))
    assert lines[at].split()[0] == "1"
    assert lines[at + 1].strip().startswith("CR2 40000000  kernel write protection  PTE stops here: ")


@pytest.mark.parametrize("words", LISTINGS, ids=[" ".join(each[:4]) for each in LISTINGS])
def test_every_listing_fits(words: list[str]) -> None:
    lines = on_terminal(words, 80, NO_COLOR="1")
    assert lines
    assert max(map(len, lines)) <= 80, max(lines, key=len)


WRONG = [
    [], ["help"], ["run", "images/cow-fork", "--break", "no-cwo"], ["run", "images/cow-fork", "--policy", "x=y"],
    ["run", "images/cow-fork", "--device", "nope"], ["run", "images/cow-fork", "--trace", "foo"],
    ["run", "/etc/passwd"], ["compare", "foo"], ["asm", "mov eax, [ebx+4*ecx]"], ["semantics", "nosuch"],
    ["debug", "images/cow-fork", "-e", "catch nothing-of-the-kind"], ["explain", "images/cow-fork", "--fault", "99"],
]  # fmt: skip


@pytest.mark.parametrize("words", WRONG, ids=[" ".join(each) or "nothing" for each in WRONG])
def test_what_is_wrong_is_told_whole_in_80_columns(words: list[str]) -> None:
    lines = on_terminal(words, 80, NO_COLOR="1")
    assert 1 <= len(lines) < 12 and not any("…" in line or "Traceback" in line for line in lines)
    assert max(map(len, lines)) <= 80, max(lines, key=len)


def test_an_option_that_is_none_is_told_with_its_verb() -> None:
    usage, error = on_terminal(["maps", "images/cow-fork", "--end"], 80)
    assert usage.startswith("usage: sandbox maps ") and error == "sandbox maps: error: unrecognized argument: --end"


def test_the_nearest_of_many_names_is_told() -> None:
    wrong = " ".join(on_terminal(["run", "images/cow-fork", "--break", "no-cwo"], 200))
    assert "did you mean no-cow" in wrong and "no-vmalloc-sync" not in wrong
    devices = [
        line.partition(" at 0x")[0].strip() for line in on_terminal(["run", "images/cow-fork", "--device", "nope"], 80)
    ]
    assert {"card", "pcicard", "framebuffer", "isa", "holecard"} <= set(devices), "a line each"
    assert "did you mean record?" in " ".join(on_terminal(["recrod"], 200))


PATH = "a-folder-of-a-long-name/and-another-below-it-with-a-longer-one/and-one-more-for-good-measure/data.txt"
MAPS_IT = f"""        .set SYS_mmap, 90
_start:
        sys open, "offset path", 0
        mov [arguments + 16], eax
        sys mmap, "offset arguments"
        mov [eax], al
        .data
arguments: .long 0, 4096, 1, 2, 0, 0
path:   .asciz "/{PATH}"
"""


@pytest.mark.parametrize("columns", [80, 300])
def test_long_paths(elf: Files, tmp_path: Path, columns: int) -> None:  # noqa: F811
    """Of a path both ends are seen, and what stands behind it; where there is room all of it."""
    (tmp_path / "tree" / PATH).parent.mkdir(parents=True)
    (tmp_path / "tree" / PATH).write_text("x")
    words = ["run", "--strace", "--root", str(tmp_path / "tree"), elf(MAPS_IT)]
    lines = on_terminal(words, columns, NO_COLOR="1")
    shown = [line for line in lines if "data.txt" in line]
    assert [line.split("(")[0] for line in shown if line.endswith(" = 3")] == ["open"]
    assert any("area: " in line for line in shown)
    assert all(len(line) <= columns and ("…" in line) == (columns == 80) for line in shown)
    assert all((PATH in line) == (columns == 300) for line in shown)


def test_a_pipe_gets_all() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", "images"], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )
    assert max(map(len, done.stdout.splitlines())) > 80
    assert "…" not in done.stdout


def test_the_columns_that_matter_are_whole() -> None:
    lines = on_terminal(VIEWS[0], 80, NO_COLOR="1")
    assert any(line.split()[0] == "4" and "0804a000" in line and line.endswith("cow-copy") for line in lines)


@pytest.mark.parametrize(
    ("name", "value", "coloured"), [("NO_COLOR", "1", False), ("TERM", "dumb", False), ("TERM", "xterm", True)]
)
def test_colour(name: str, value: str, coloured: bool) -> None:
    assert any("\x1b" in line for line in on_terminal(VIEWS[0], 80, **{name: value})) == coloured
