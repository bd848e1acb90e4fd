"""Signals to init and to the shell that waits for the program.

Each expectation was taken from Linux 6 by a C program of the same calls, as root in a PID namespace of its own:
``unshare -pf INIT``, where INIT forks ``bash -c 'PROGRAM; :'`` and waits for whoever ends.
"""

from __future__ import annotations

import pytest

from tests.conftest import Run
from tests.kernel.calls import results

HUP, INT, QUIT, KILL, USR1, SEGV, TERM, CHLD, CONT, STOP, TSTP, TTIN, URG, WINCH, RT = (
    1, 2, 3, 9, 10, 11, 15, 17, 18, 19, 20, 21, 23, 28, 34,
)  # fmt: skip
INIT, SHELL, EVERYBODY = 1, 2, -1
ESRCH = -3


@pytest.mark.parametrize(
    ("kills", "expected"),
    [
        ([(INIT, TERM), (INIT, KILL), (INIT, SEGV)], [(0, SHELL)] * 3),
        (
            [(SHELL, INT), (SHELL, QUIT), (SHELL, CONT), (SHELL, TERM), (SHELL, 0), (EVERYBODY, 0)],
            [(0, SHELL)] * 3 + [(0, INIT), (ESRCH, INIT), (ESRCH, INIT)],
        ),
        ([(EVERYBODY, TERM), (SHELL, 0)], [(0, INIT), (ESRCH, INIT)]),
        ([(SHELL, KILL), (INIT, 0), (SHELL, KILL)], [(0, INIT), (0, INIT), (ESRCH, INIT)]),
        (
            [(SHELL, STOP), (SHELL, CONT), (SHELL, HUP), (SHELL, 0)],
            [(0, SHELL), (0, SHELL), (0, INIT), (ESRCH, INIT)],
        ),
        ([(SHELL, USR1)], [(0, INIT)]),
        ([(SHELL, RT)], [(0, INIT)]),
        ([(SHELL, each) for each in (CHLD, URG, WINCH, TSTP, TTIN)], [(0, SHELL)] * 5),
    ],
)
def test_kill(run: Run, kills: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    calls = [call for pid, number in kills for call in (("kill", pid, number), ("getppid",))]
    found = results(run, calls)[0]
    assert list(zip(found[::2], found[1::2], strict=True)) == expected


def test_the_run_goes_on_without_the_shell(run: Run) -> None:
    """Its status is the program's, as init would see it."""
    text = ".set SYS_kill, 37\n_start: sys kill, 2, 9\n sys kill, 2, 0\n expect eax, -3, 1\n sys exit, 7"
    assert run(text).status == 7
