"""The frame around every verb: pipes that close, Ctrl-C, errors with detail, and what is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

import sandbox.cli
from sandbox.cli import INTERRUPTED, OUR_FAULT, main
from sandbox.x86.errors import ConfigurationError, SandboxError

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
    assert main(["images"]) == OUR_FAULT
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
    assert main(["images"]) == OUR_FAULT
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


def test_a_listing_needs_no_engine_and_no_kernel():
    check = (
        "import sys; from sandbox.cli import main; main(['images']); "
        "bad = [n for n in sys.modules if n.startswith(('unicorn', 'capstone', 'keystone', 'construct', 'elftools', "
        "'sandbox.kernel', 'sandbox.engine'))]; print(bad, file=sys.stderr); sys.exit(bool(bad))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=False)
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
