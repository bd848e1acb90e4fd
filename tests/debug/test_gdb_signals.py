"""Signals before their delivery, by real gdb; what is expected is what gdb said of the same program on Linux 6.1."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandbox.debug.gdb.signals import to_gdb, to_linux
from tests.debug.test_gdb import gdb, needs_gdb, serving

PROGRAM = """
        .globl _start, handler, back, bad, finished
_start: mov $48, %eax                   # signal(SIGUSR1, handler)
        mov $10, %ebx
        mov $handler, %ecx
        int $0x80
        mov $20, %eax                   # getpid
        int $0x80
        mov %eax, %ebx
        mov $37, %eax                   # kill(self, SIGUSR1)
        mov $10, %ecx
        int $0x80
back:   mov count, %esi
bad:    mov 0, %eax
finished:
        mov $1, %eax
        mov %esi, %ebx
        int $0x80
handler:
        incl count
        ret
        .data
count:  .long 0
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    (tmp_path / "sig.S").write_text(PROGRAM)
    return str(tmp_path / "sig.S")


@needs_gdb
def test_delivered_and_discarded(program: str) -> None:
    with serving(program) as where:
        told = gdb(
            where, "continue", "print $_siginfo.si_signo", "print $_siginfo.si_code",
            "print $_siginfo._sifields._kill.si_pid", "info symbol $eip", "stepi", "info symbol $eip", "continue",
            "print $_siginfo._sifields._sigfault.si_addr", "print $esi", "signal 0", "info symbol $eip",
            "set $eip = finished", "signal 0",
        )  # fmt: skip
    assert "received signal SIGUSR1" in told
    assert re.findall(r"^\$\d = (.*)$", told, re.M) == ["10", "0", "3", "(void *) 0x0", "1"]
    assert re.findall(r"^(\w+) in section", told, re.M) == ["back", "handler", "bad"]
    assert told.count("received signal SIGSEGV") == 2
    assert "exited with code 01" in told


@needs_gdb
def test_discarded_and_replaced(program: str) -> None:
    """Without the first one the handler is never called; SIGTERM in the place of SIGSEGV ends the program."""
    with serving(program) as where:
        told = gdb(where, "continue", "signal 0", "print $esi", "signal SIGTERM")
    assert "$1 = 0" in told
    assert "terminated with signal SIGTERM" in told


@needs_gdb
def test_sent_by_gdb(program: str) -> None:
    """A signal of gdb's own, from a place where none waits, is delivered before the next instruction."""
    with serving(program) as where:
        told = gdb(where, "break back", "handle SIGUSR1 nostop noprint", "continue", "signal SIGHUP")
        assert "Breakpoint 1" in told
        assert "SIGUSR1" not in told.split("Breakpoint 1, ")[1]
        assert "terminated with signal SIGHUP" in told


@needs_gdb
def test_passed_signals_are_no_stop(program: str) -> None:
    with serving(program) as where:
        told = gdb(where, "handle SIGUSR1 nostop noprint", "handle SIGSEGV nostop noprint pass", "continue")
    assert "received" not in told
    assert "terminated with signal SIGSEGV" in told


@needs_gdb
def test_siginfo_is_set(program: str) -> None:
    with serving(program) as where:
        told = gdb(
            where, "continue", "set $_siginfo.si_code = -6", "print $_siginfo.si_code", "break handler", "continue",
            "monitor tasks", "reverse-continue", "reverse-stepi", "info symbol $eip",
        )  # fmt: skip
    assert "$1 = -6" in told
    assert re.search(r"Breakpoint 1, 0x\w+ in handler", told)


@needs_gdb
def test_back_over_a_discarded_signal(program: str) -> None:
    """What gdb did to it is part of the past.  From the signal one goes back to before the instruction that faulted."""
    with serving(program) as where:
        told = gdb(
            where, "continue", "signal 0", "info symbol $eip", "reverse-stepi", "info symbol $eip", "reverse-stepi",
            "info symbol $eip", "stepi", "stepi",
        )  # fmt: skip
    assert re.findall(r"^(\w+) in section", told, re.M) == ["bad", "bad", "back"]
    assert told.count("SIGSEGV") == 2


def test_numbers_are_gdbs_own() -> None:
    """include/gdb/signals.def: GDB_SIGNAL_BUS 10, USR1 30, CHLD 20, REALTIME_34 46, SIG32 77, SIG64 78."""
    assert [to_gdb(each) for each in (7, 10, 17, 34, 32, 64, 11)] == [10, 30, 20, 46, 77, 78, 11]
    assert all(to_linux(to_gdb(each)) == each for each in range(65) if each != 16)
    with pytest.raises(ValueError, match="no signal"):
        to_linux(7)
