"""``sandbox run --seeds``: what is compared, what is told, and that it can be ended.

A program prints a random byte, which the machine draws from the seed: it ends otherwise under another seed, and so
again under the same.
"""

from __future__ import annotations

import shlex
import signal
import sys

import pytest

from sandbox.cli import main
from sandbox.cli.interrupts import Interrupts
from sandbox.engine import stubs
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.time import Clock
from sandbox.kernel.task.limits import Interrupted, RunLimits
from tests.cli.test_cli import Files, call, elf  # noqa: F401

DRAWS = """_start:
    mov ebx, esp
    mov ecx, 1
    xor edx, edx
    mov eax, 355                # getrandom
    int 0x80
    and byte ptr [esp], 0x3f
    or  byte ptr [esp], 0x40
    sys write, 1, esp, 1
    pass
"""


def test_another_outcome_is_told_with_the_command_that_replays_it(
    elf: Files,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["run", "--cpus", "2", "--seeds", "1-40", elf(DRAWS)]
    monkeypatch.setattr(sys, "argv", ["sandbox", *words])
    status, out, err = call(words, capfd)
    assert status == 1
    one, other, command = out.splitlines()
    number = int(err.split()[2])
    assert one.startswith("  seed 1: exit status 0") and other.startswith(f"  seed {number}: exit status 0")
    replayed = call(shlex.split(command.removeprefix("it ends so again: sandbox ")), capfd)
    assert replayed[0] == 0 and f'standard output "{replayed[1]}"' in other.replace("\\\\", "\\")


@pytest.mark.skipif(not stubs.native_host(), reason="the feed is x86-64 Linux code")
def test_reports_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--seeds", "1-2", "--sanitize", "tlb", "images/smp-truncate", "--break", "no-shootdown"]
    assert "; reports of the sanitizer: released, ring3, use\n" in call(words, capfd)[1]


def test_a_signal_between_two_machines_is_not_lost() -> None:
    """Ctrl-C may come while the next machine is built, when there is none to stop."""
    interrupts = Interrupts()
    signal.raise_signal(signal.SIGTERM)
    limits = RunLimits(KernelConfig(), Clock([]))
    interrupts.watch(limits)
    with pytest.raises(Interrupted):
        limits.check_limits()
    assert interrupts.status == 143


def test_one_cpu_has_no_schedules(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--cpus", "1", "--seeds", "1-2", "images/cow-fork"]) == 2
    assert "nobody comes in between" in capfd.readouterr().err


@pytest.mark.parametrize("option", ["--seeds", "--race"])
@pytest.mark.parametrize(
    "word", ["", ":", "-", "wp:", "wp:0", "wp:x", "2-1", "1-", "wp:" + "9" * 5000, "1-" + "9" * 5000]
)
def test_what_is_no_range_and_no_place(option: str, word: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Python takes no number of more than 4300 digits, with an error of its own."""
    status, out, err = call(["run", "images/cow-fork", "--cpus", "2", option, word], capfd)
    assert (status, out) == (2, "") and err.startswith("sandbox: ")


def test_a_race_that_never_came_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    """Two-level entries are stored in one piece: nobody can come in between."""
    words = ["run", "images/cow-fork", "--cpus", "2", "--paging", "legacy", "--race", "set_pte", "--race", "wp:2"]
    status, _, err = call(words, capfd)
    assert (status, err) == (0, "sandbox: --race set_pte:1: the run came there 0 times\n")
    assert call(["run", "images/cow-fork", "--cpus", "2", "--race", "wp:2"], capfd)[2] == ""
