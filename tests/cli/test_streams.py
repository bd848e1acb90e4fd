"""Our own standard streams closed, full, not waiting, and in encodings that cannot show what is said.

What a program meets on a closed or full stream is what it meets natively: write(2) gives EBADF or ENOSPC.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Program

Shell = Callable[..., "subprocess.CompletedProcess[str]"]
WRITES = """_start:
    mov ecx, offset text
    sys write, 1, , 3
    neg eax
    mov ebx, eax
    mov eax, 1
    int 0x80
text: .ascii "hi\\n"
"""
IGNORES = '_start: say "x"\n pass'
READS = """_start:
    sys read, 0, esp, 1
    neg eax
    mov ebx, eax
    mov eax, 1
    int 0x80
"""
EBADF, ENOSPC = 9, 28
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shell(tmp_path: Path, program: Program) -> Shell:
    """``shell("run $writes >&-")``: the command line through a shell, with three programs by name."""
    programs = {"writes": WRITES, "ignores": IGNORES, "reads": READS}
    for name, text in programs.items():
        (tmp_path / name).write_bytes(program(text))
        (tmp_path / name).chmod(0o755)

    def go(words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        paths = {name: str(tmp_path / name) for name in programs}
        return subprocess.run(
            ["sh", "-c", words.replace("SANDBOX", f"'{sys.executable}' -m sandbox")],
            env={**os.environ, **paths, **environment}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return go


@pytest.mark.parametrize(
    ("name", "where", "status"),
    [("writes", ">&-", EBADF), ("writes", ">/dev/full", ENOSPC), ("reads", "<&-", EBADF)],
)
def test_a_program_meets_what_it_meets_natively(shell: Shell, name: str, where: str, status: int) -> None:
    assert shell(f"${name} {where}").returncode == status
    assert shell(f"SANDBOX run --status ${name} {where}").returncode == status


@pytest.mark.parametrize(("where", "why"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")])
def test_lost_output_is_told(shell: Shell, where: str, why: str) -> None:
    done = shell(f"SANDBOX run $ignores {where}")
    assert (done.returncode, done.stderr) == (2, f"sandbox: standard output: {why}: what the guest wrote is lost\n")
    assert shell(f"SANDBOX run --status $ignores {where}").returncode == shell(f"$ignores {where}").returncode == 0


@pytest.mark.parametrize("where", [">&-", ">/dev/full"])
@pytest.mark.parametrize(
    "words",
    ["run --json $ignores", "images", "explain $ignores", "walk $ignores 0x1000", "asm nop", "disasm c3", "--help",
     "debug -e regs $ignores", "maps $ignores"],
)  # fmt: skip
def test_what_we_print_and_cannot(shell: Shell, words: str, where: str) -> None:
    done = shell(f"SANDBOX {words} {where}")
    assert done.returncode == 2
    assert done.stderr.startswith("sandbox: standard output: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
def test_the_other_streams(shell: Shell, where: str) -> None:
    """Nothing is said there, so nothing is lost."""
    done = shell(f"SANDBOX run $ignores {where}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "x", "")


def test_a_lost_trace_shows_in_the_status(shell: Shell) -> None:
    for where in ("2>&-", "2>/dev/full"):
        assert shell(f"SANDBOX run --trace faults $ignores {where}").returncode == 2
        assert shell(f"SANDBOX run none {where}").returncode == 2
    assert shell("SANDBOX run none <&- >&- 2>&-").returncode == 2


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("run none", 2),
        ("walk $ignores", 2),
        ("run images/mprotect-flush --break no-flush", 1),
        ("run --stats $ignores >/dev/null", 0),
    ],
)
def test_messages_that_nobody_reads(shell: Shell, words: str, status: int) -> None:
    """A reader of both streams that is gone, as head is, changes no status; Python's own for it is 120."""
    done = shell(f"(sleep 0.2; SANDBOX {words}; echo $? >&3) 3>&2 2>&1 | true")
    assert done.stderr == f"{status}\n"


def test_a_trace_that_nobody_reads_ends_the_run(shell: Shell) -> None:
    done = shell(
        "(SANDBOX run --trace calls --time-limit 20 images/fork-tree; echo $? >&3) 3>&2 2>&1 >/dev/null | true"
    )
    assert done.stderr == "0\n"


def test_no_file_gets_the_number_of_a_closed_stream(shell: Shell, tmp_path: Path) -> None:
    """With 1 free, the first file that is opened would take it, and the guest's output go into it."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "data").write_text("mine")
    shell(f"SANDBOX run --root {tmp_path}/tree --write --file {tmp_path}/reads:/r $ignores >&- 2>&- <&-")
    assert (tmp_path / "tree" / "data").read_text() == "mine"


def test_a_stream_that_does_not_wait_is_waited_for(shell: Shell) -> None:
    """A pipe with O_NONBLOCK and a slow reader: all images are listed."""
    code = "import os,sys; os.set_blocking(1, 0); os.execv(sys.executable, [sys.executable, '-m', 'sandbox', 'images'])"
    slow = f"'{sys.executable}' -c \"{code}\" | (sleep 1; cat)"
    assert shell(slow).stdout == shell("SANDBOX images").stdout


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}],
)
def test_any_encoding(shell: Shell, environment: dict[str, str]) -> None:
    done = shell("SANDBOX images && SANDBOX test images/call-faults && SANDBOX debug -e nötig $ignores", **environment)
    assert done.returncode == 2 and "no command" in done.stdout and "our bug" not in done.stderr
    assert shell("SANDBOX run images/n\\303\\266tig", **environment).returncode == 2
    done = shell("printf '\\377\\n' | SANDBOX debug $ignores", **environment)
    assert done.returncode == 2 and "no command" in done.stdout and "our bug" not in done.stderr


def test_a_debugger_without_input(shell: Shell) -> None:
    done = shell("SANDBOX debug $ignores <&-")
    assert (done.returncode, done.stderr) == (2, "sandbox: standard input: Bad file descriptor\n")


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """The command as it is installed: beside a Python."""
    folder = tmp_path / "installed"
    folder.mkdir()
    (folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "python").chmod(0o755)
    return Path(shutil.copy(ROOT / "bin" / "sandbox", folder))


@pytest.mark.parametrize("words", ["run $reads", "debug $ignores", "asm -", "images", "--version"])
def test_a_folder_as_standard_input(shell: Shell, command: Path, words: str) -> None:
    """Python's own start fails there, so that it is told before."""
    done = shell(f"{command} {words} < /")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "sandbox: standard input: Is a directory\n")


def test_the_installed_command(shell: Shell, command: Path, tmp_path: Path) -> None:
    """Its status and streams are those of Python's; also through a link, and with standard input closed."""
    (tmp_path / "link").symlink_to(command)
    for name in (command, tmp_path / "link"):
        assert shell(f"{name} run --status $reads <&-").returncode == EBADF
        assert shell(f"cd /; {name} run $ignores").stdout == "x"


@pytest.mark.parametrize(("words", "said"), [("debug $ignores", "standard input"), ("asm -", "stdin")])
@pytest.mark.parametrize("where", ["<&-", "0>/dev/null"])
def test_an_input_that_cannot_be_read(shell: Shell, words: str, said: str, where: str) -> None:
    done = shell(f"SANDBOX {words} {where}")
    assert (done.returncode, done.stderr) == (2, f"sandbox: {said}: Bad file descriptor\n")
    assert shell(f"SANDBOX run --status $reads {where}").returncode == EBADF


def test_a_socket_as_standard_input(shell: Shell) -> None:
    """read(2) gives what was sent, here and natively."""
    code = (
        "import os, socket, sys; a, b = socket.socketpair(); a.send(b'regs\\n'); a.close(); os.dup2(b.fileno(), 0);"
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )
    through = f"'{sys.executable}' -c \"{code}\""
    assert shell(f"{through} $reads").returncode == shell(f"{through} SANDBOX run --status $reads").returncode == 0xFF
    assert "cr3" in shell(f"{through} SANDBOX debug $ignores").stdout
