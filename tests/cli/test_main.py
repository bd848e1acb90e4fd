"""The frame around every verb: pipes that close, Ctrl-C, errors with detail, and what is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

import sandbox.cli
from sandbox.cli import INTERRUPTED, main
from sandbox.kernel.base.inject import SWITCHES
from sandbox.x86.errors import ConfigurationError, SandboxError
from tests.patience import PATIENCE, busy, running

COMMAND = [sys.executable, "-m", "sandbox"]


def verb_that(action):
    """A verb's module whose run does ``action``."""

    def add_parser(commands, title):
        commands.add_parser("images", help=title).set_defaults(run=lambda options: action())

    return SimpleNamespace(add_parser=add_parser)


@pytest.fixture
def does(monkeypatch):
    def set_action(action):
        monkeypatch.setattr(sandbox.cli.importlib, "import_module", lambda name: verb_that(action))

    return set_action


def raising(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ConfigurationError("x.S:3: too much", "because\nof this"), 2, "sandbox: x.S:3: too much\nbecause\nof this\n"),
        (SandboxError("it broke"), 3, "sandbox: it broke\n"),
        (KeyboardInterrupt(), INTERRUPTED, "sandbox: interrupted\n"),
    ],
)
def test_errors(does, capsys, error, status, said):
    does(raising(error))
    assert main(["images"]) == status
    assert capsys.readouterr().err == said


def test_anything_else_is_our_bug(does, capsys, monkeypatch):
    monkeypatch.delenv("SANDBOX_TRACEBACK", raising=False)
    does(raising(ZeroDivisionError("oops")))
    assert main(["images"]) == 3
    err = capsys.readouterr().err
    assert "our bug" in err
    assert "oops" in err
    assert "test_main.py:" in err
    monkeypatch.setenv("SANDBOX_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main(["images"])


def test_a_verb_whose_module_is_broken_is_our_bug_too(monkeypatch, capsys):
    def import_module(name):
        raise ImportError("half installed")

    monkeypatch.setattr(sandbox.cli.importlib, "import_module", import_module)
    assert main(["images"]) == 3
    assert "half installed" in capsys.readouterr().err


def test_the_status_is_the_verbs(does):
    does(lambda: 1)
    assert main(["images"]) == 1


@pytest.mark.parametrize("words", [["images"], ["disasm", "90" * 20_000], ["images", "--json"]])
def test_a_reader_that_leaves_early_is_no_error(words):
    """Short output fails at the last flush, long output in the middle."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*COMMAND, *words], stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


SLOW = (
    "ast", "asyncio", "capstone", "construct", "dataclasses", "elftools", "inspect", "json", "keystone", "logging",
    "multiprocessing", "shutil", "socket", "subprocess", "tempfile", "unicorn",
)  # fmt: skip
"""Packages of which each takes a millisecond or more to import, up to as long as a whole short run."""
WORKING = ("sandbox.kernel", "sandbox.engine", "sandbox.machine", "sandbox.runner")
OTHERS = ("sandbox.debug", "sandbox.suite", "sandbox.report", "sandbox.image.assemble", "sandbox.image.disassemble")


@pytest.mark.parametrize(
    ("words", "may_not"),
    [
        (["--help"], (*SLOW, *WORKING, *OTHERS, "sandbox.image", "sandbox.cli.run")),
        (["images"], ("unicorn", "capstone", "keystone", "construct", "elftools", "dataclasses", *WORKING)),
        (["run", "small.elf"], (*SLOW, *OTHERS, "tomllib", "sandbox.cli.explain", "sandbox.cli.debug")),
    ],
)
def test_a_short_command_imports_only_what_it_needs(tmp_path, words, may_not):
    from sandbox.image.assemble import assemble_source

    (tmp_path / "small.S").write_text(SMALL.replace("$9", "$0"))
    assemble_source(tmp_path / "small.S", tmp_path / "small.elf")
    check = (
        f"import sys\nfrom sandbox.cli import main\ntry: main({words})\nexcept SystemExit: pass\n"
        f"bad = sorted(n for n in sys.modules if any((n + '.').startswith(each + '.') for each in {may_not}))\n"
        "print(bad, file=sys.stderr); sys.exit(bool(bad))"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "wanted"), [(["run", "images/hello"], False), (["run", "images/hello", "--strace"], True)]
)
def test_only_a_traced_run_pays_for_construct(words, wanted):
    check = (
        f"import sys; from sandbox.cli import main; main({words}); sys.exit(42 if 'construct' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (42 if wanted else 0), done.stderr


SMALL = ".globl _start\n_start: mov $1, %eax\nmov $9, %ebx\nint $0x80\n"
FOREVER = ".globl _start\n_start: jmp _start\n"


@pytest.mark.parametrize("words", [["run", "--status", "./-dash.S"], ["run", "--status", "--", "-dash.S"]])
def test_a_name_that_looks_like_an_option(tmp_path, words):
    (tmp_path / "-dash.S").write_text(SMALL)
    done = subprocess.run([*COMMAND, *words], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 9, done.stderr


def test_words_behind_such_a_name_are_the_programs(tmp_path):
    (tmp_path / "-dash.S").write_text(".globl _start\n_start: mov $1, %eax\nmov (%esp), %ebx\nint $0x80\n")
    words = [*COMMAND, "run", "--status", "--", "-dash.S", "a", "--json"]
    assert subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=60, check=False).returncode == 3


def test_bytes_to_the_output(tmp_path):
    done = subprocess.run([*COMMAND, "asm", "-o", "-", "ud2; ret"], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout == b"\x0f\x0b\xc3"  # SDM 2B
    assert not list(tmp_path.iterdir())


def test_outside_of_the_repository(tmp_path):
    for words, said in (
        (["run", "images/hello"], ""),
        (["run", "--trace", "faults", "images/hello/manifest.toml"], ""),
        (["test", "--whole", "images/hello"], "2 passed"),
        (["run", "images/helo"], "did you mean images/hello"),
    ):
        done = subprocess.run([*COMMAND, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert said in done.stdout + done.stderr
        assert done.returncode == (2 if "helo" in words[-1] else 0), done.stderr
    (tmp_path / "images").mkdir()
    done = subprocess.run([*COMMAND, "test"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "images: no manifest there" in done.stderr, "a folder of that name is the one that is meant"


def test_ram_is_in_bytes(tmp_path):
    (tmp_path / "p.S").write_text(SMALL)
    for size, said in (("1", "1 byte"), ("1M", "1 MB"), ("4194303", "3.99999904632568 MB"), ("63G", "64512 MB")):
        done = subprocess.run(
            [*COMMAND, "run", "--ram", size, "p.S"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert done.stderr.startswith(f"sandbox: {said} of RAM: a machine has 4 MB to 62 GB")


@pytest.mark.parametrize(
    "words",
    [["run", "p.S"], ["run", "--json", "p.S"], ["run", "--status", "p.S"], ["explain", "p.S", "--fault", "9"],
     ["debug", "-e", "continue", "p.S"], ["test", "-j", "2", "p"]],
)  # fmt: skip
def test_an_interrupt_is_130_everywhere(tmp_path, words):
    """As of a shell's command that SIGINT ended: 128 and the signal's number (POSIX, XCU 2.8.2)."""
    import signal

    (tmp_path / "p.S").write_text(FOREVER)
    (tmp_path / "p").mkdir()
    from sandbox.image.assemble import assemble_source

    assemble_source(tmp_path / "p.S", tmp_path / "p" / "p.elf")
    (tmp_path / "p" / "manifest.toml").write_text(
        '[image]\nkind = "program"\ntitle = "t"\nsource = "p.S"\nfile = "p.elf"\n[machine]\ntime_limit = 5\n'
    )
    with running(
        [*COMMAND, *words], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:  # fmt: skip
        busy(process.pid, 1.0)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == INTERRUPTED
    assert b"Traceback" not in said and b"our bug" not in said


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_help_breaks_no_name(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], columns: int) -> None:
    """A switch of --break can be copied from the help, whatever the terminal's width."""
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    words = capfd.readouterr().out.replace(",", " ").replace(";", " ").split()
    assert set(SWITCHES) <= set(words)


EARLY = """
import sys
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "sandbox.bundle":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
sys.argv = ["sandbox", "doctor"]
import runpy
runpy.run_module("sandbox", run_name="__main__")
"""


def test_ctrl_c_before_anything_is_imported() -> None:
    """A line and 130, as later on, and no traceback."""
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "", "sandbox: interrupted\n")
