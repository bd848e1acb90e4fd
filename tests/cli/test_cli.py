"""The command line: exit statuses, what goes to which stream, one-line errors, no traceback."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from sandbox.cli import VERBS, main
from tests.conftest import Program

Files = Callable[..., str]


@pytest.fixture
def elf(program: Program, tmp_path: Path) -> Files:
    """``elf(text)``: the path of a program."""

    def make(text: str, name: str = "prog") -> str:
        (tmp_path / name).write_bytes(program(text))
        return str(tmp_path / name)

    return make


def call(words: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    try:
        status = main(words)
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    assert "our bug" not in err, err
    return status, out, err


EXIT = "_start: mov ebx, {}\n mov eax, 1\n int 0x80"


@pytest.mark.parametrize(("code", "status", "shown"), [(0, 0, 0), (3, 1, 3), (255, 1, 255)])
def test_run_exit_status(elf: Files, capfd, code: int, status: int, shown: int) -> None:
    path = elf(EXIT.format(code))
    assert call(["run", path], capfd)[0] == status
    assert call(["run", path, "--status"], capfd)[0] == shown


def test_run_killed(elf: Files, capfd) -> None:
    path = elf("_start: ud2")
    status, out, err = call(["run", path], capfd)
    assert (status, out) == (1, "")
    assert "SIGILL" in err
    assert "ud2" in err
    assert call(["run", "--status", path], capfd)[0] == 128 + 4


def test_streams(elf: Files, capfd) -> None:
    path = elf('_start: say "to out\\n"\n sys write, 2, esp, 0\n pass')
    assert call(["run", path], capfd) == (0, "to out\n", "")
    status, out, err = call(["run", "--trace", "faults,calls", "--stats", path], capfd)
    assert (status, out) == (0, "to out\n")
    assert "file-read" in err
    assert "write(" in err
    assert "page faults" in err


def test_json(elf: Files, capfd) -> None:
    path = elf('_start: say "hi"\n ud2')
    status, out, err = call(["run", "--json", "--trace", "faults", path], capfd)
    found = json.loads(out)
    assert status == 1
    assert err == ""
    assert (found["passed"], found["signal"], found["stdout"]) == (False, "SIGILL", "hi")
    assert found["deaths"][0]["pid"] == 3
    assert found["events"]
    assert found["summary"]["page_faults"] > 0


def test_guest_arguments(elf: Files, capfd) -> None:
    path = elf("_start: mov ebx, [esp]\n mov eax, 1\n int 0x80")
    assert call(["run", "--status", path], capfd)[0] == 1
    assert call(["run", path, "--status", "a", "-x", "--", "--json"], capfd)[0] == 4
    assert call(["run", "--status", path, "--", "--status"], capfd)[0] == 2


def test_limits(elf: Files, capfd) -> None:
    path = elf("_start: jmp _start")
    status, _, err = call(["run", path, "--limit", "100k"], capfd)
    assert status == 1
    assert "limit" in err
    assert call(["run", path, "--time-limit", "0.05"], capfd)[0] == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--ram", "x"], ["--ram", "1M"], ["--ram", "-4M"], ["--ram", "99999G"], ["--ram", "3G", "--paging", "legacy"],
        ["--cpus", "0"], ["--cpus", "9"], ["--cpus", "two"], ["--paging", "pse"], ["--boot", "mem=x"],
        ["--break", "everything"], ["--limit", "many"], ["--trace", "nothing"], ["--root", "/no/such/folder"],
        ["--seed", "x"], ["--time-limit", "soon"], ["--ram"], ["--no-such-option"],
    ],
)  # fmt: skip
def test_bad_options(elf: Files, capfd, options: list[str]) -> None:
    status, out, err = call(["run", *options, elf("_start: pass")], capfd)
    assert status == 2
    assert out == ""
    assert re.search("^sandbox(?: run)?: ", err, re.M)


@pytest.mark.parametrize("verb", ["run", "explain", "walk", "maps", "debug", "test"])
def test_no_such_image(tmp_path: Path, capfd, verb: str) -> None:
    extra = ["0x1000"] if verb == "walk" else []
    for name in ("none", "none.S", "", "x" * 300, "a\nb"):
        status, _, err = call([verb, str(tmp_path / name) if name else "", *extra], capfd)
        assert status == 2, name
        assert err


@pytest.mark.parametrize("data", [b"", b"hello", b"\x7fELF", b"\x7fELF" + bytes(100), bytes(range(256)) * 20])
def test_files_that_are_no_images(tmp_path: Path, capfd, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    for verb in (["run"], ["explain"], ["maps"]):
        status, out, err = call([*verb, str(path)], capfd)
        assert (status, out) == (2, "")
        assert err.startswith("sandbox: ")
    for name, text in (("bad.toml", data), ("bad.S", b"\x00\xff" + data)):
        (tmp_path / name).write_bytes(text)
        assert call(["run", str(tmp_path / name)], capfd)[0] == 2


def test_source_errors_are_the_assemblers(tmp_path: Path, capfd) -> None:
    (tmp_path / "p.S").write_text(".globl _start\n_start: nonsense eax\n")
    status, _, err = call(["run", str(tmp_path / "p.S")], capfd)
    assert status == 2
    assert "p.S:2" in err


def test_usage(capfd) -> None:
    assert call([], capfd)[0] == 2
    assert call(["no-such-verb"], capfd)[0] == 2
    status, out, _ = call(["--help"], capfd)
    assert status == 0
    assert all(verb in out for verb in VERBS)
    assert call(["run"], capfd)[0] == 2


@pytest.mark.parametrize("verb", [verb for verb in VERBS if find_spec(f"sandbox.cli.{verb}")])
def test_every_verb_has_help(capfd, verb: str) -> None:
    status, out, _ = call([verb, "--help"], capfd)
    assert status == 0
    assert "usage: " in out


TOUCH = "_start: mov dword ptr [page], 7\nafter: mov eax, [0x10]\n pass\n .bss\npage: .skip 4096"


def test_explain(elf: Files, capfd) -> None:
    path = elf(TOUCH)
    status, out, _ = call(["explain", path, "--fault", "2"], capfd)
    assert status == 0
    assert "demand-zero" in out
    assert "mov" in out
    found = json.loads(call(["explain", "--json", "--fault", "3", path], capfd)[1])
    assert (found["address"], found["resolution"]) == (0x10, "sigsegv")
    for number in ("0", "-1", "99"):
        status, _, err = call(["explain", path, "--fault", number], capfd)
        assert status == 2
        assert "fault" in err


def test_walk_and_maps(elf: Files, capfd) -> None:
    path = elf(TOUCH)
    status, out, _ = call(["walk", path, "page"], capfd)
    assert status == 0
    assert "not present" in out
    assert "physical" in call(["walk", "--at", "after", path, "page+4", "w"], capfd)[1]
    assert "supervisor" in call(["walk", path, "0xC0000000"], capfd)[1]
    assert "[stack]" in call(["maps", path], capfd)[1]
    for bad in (["walk", path, "no_such_symbol"], ["maps", path, "--at", "no_such_symbol"]):
        status, _, err = call(bad, capfd)
        assert status == 2
        assert "no_such_symbol" in err
    ended = elf("_start: pass\nnever: nop", "ended")
    assert call(["maps", ended, "--at", "never"], capfd)[0] == 2


def test_disasm(elf: Files, capfd) -> None:
    path = elf("_start: ud2\n pass")
    assert "ud2" in call(["disasm", path], capfd)[1]
    assert "ret" in call(["disasm", "c3"], capfd)[1]
    rows = json.loads(call(["disasm", "--json", "--address", "0x1000", "0f0b c3"], capfd)[1])
    assert [row["address"] for row in rows] == [0x1000, 0x1002]
    assert call(["disasm", "not hex"], capfd)[0] == 2
    assert call(["disasm", "90" * 400], capfd)[0] == 0
    assert call(["disasm", ""], capfd)[0] == 2


def test_debug_script(elf: Files, capfd, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("regs\nstep\nnonsense\nquit\n"))
    status, out, err = call(["debug", elf(TOUCH)], capfd)
    assert status == 2
    assert "eax" in out + err
    assert "no command" in out + err


MANIFEST = """
[image]
kind = "program"
title = "a test"
source = "p.S"
file = "p.elf"
[machine]
paging = ["pae", "legacy"]
[expect]
status = {status}
stdout = "{stdout}"
"""


def test_suite(elf: Files, capfd, tmp_path: Path, program: Program) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "p.elf").write_bytes(program('_start: say "x"\n sys exit, 4'))
    (folder / "manifest.toml").write_text(MANIFEST.format(status=4, stdout="x"))
    status, out, _ = call(["test", str(folder)], capfd)
    assert status == 0
    assert "2 passed, 0 failed" in out
    (folder / "manifest.toml").write_text(MANIFEST.format(status=5, stdout="y"))
    status, out, _ = call(["test", "--json", str(tmp_path)], capfd)
    assert status == 1
    assert all("exit status 4, expected 5" in row["failures"] for row in json.loads(out))
    assert call(["run", str(folder)], capfd)[0] == 1
    (tmp_path / "empty").mkdir()
    assert call(["test", str(tmp_path / "empty")], capfd)[0] == 2


def test_suite_by_several_processes(elf: Files, capfd, tmp_path: Path, program: Program) -> None:
    """The same verdicts in the same order, whoever ends first."""
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "p.elf").write_bytes(program(f"_start: sys exit, {ord(name) - ord('a')}"))
        (tmp_path / name / "manifest.toml").write_text(MANIFEST.format(status=1, stdout=""))
    alone = call(["test", str(tmp_path)], capfd)
    assert alone[0] == 1
    assert "2 passed, 4 failed" in alone[1]
    for jobs in ("2", "0", "99"):
        assert call(["test", "-j", jobs, str(tmp_path)], capfd) == alone
    assert call(["test", "--jobs=2", "--json", str(tmp_path)], capfd)[0] == 1
    assert call(["test", "-j", "-1", str(tmp_path)], capfd)[0] == 2


def test_our_own_fault_is_3_without_a_traceback(elf: Files, capfd, monkeypatch: pytest.MonkeyPatch) -> None:
    from sandbox.runner.run import Session

    def broken(self: object) -> None:
        raise ZeroDivisionError("something of ours")

    path = elf("_start: pass")
    monkeypatch.setattr(Session, "finish", broken)
    assert main(["run", path]) == 3
    err = capfd.readouterr().err
    assert "our bug" in err
    assert "Traceback" not in err


def test_as_a_process(elf: Files) -> None:
    """The module runs; a closed pipe on standard output is no error of ours."""
    path = elf('_start: say "hello\\n"\n pass')
    done = subprocess.run([sys.executable, "-m", "sandbox", "run", path], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")
