"""Numbers from the host's signal module; default actions from signal(7)."""

from __future__ import annotations

import signal

import pytest

from sandbox.kernel.abi import signals
from sandbox.kernel.abi.signals import Action, default_action, name_of


def test_numbers_are_the_hosts() -> None:
    hosts = {s.name: int(s) for s in signal.Signals if not s.name.startswith("SIGRT")}
    ours = {name: number for number, name in signals.NAMES.items()}
    assert {name: hosts[name] for name in ours if name in hosts} == {n: v for n, v in ours.items() if n in hosts}
    assert set(hosts) - set(ours) <= {"SIGCLD", "SIGPOLL", "SIGIOT"}
    assert sorted(signals.NAMES) == list(range(1, 32))


@pytest.mark.parametrize(
    ("numbers", "action"),
    [
        ((3, 4, 5, 6, 7, 8, 11, 24, 25, 31), Action.CORE),
        ((1, 2, 9, 10, 12, 13, 14, 15, 16, 26, 27, 29, 30, 34, 64), Action.TERMINATE),
        ((19, 20, 21, 22), Action.STOP),
        ((17, 23, 28), Action.IGNORE),
        ((18,), Action.CONTINUE),
    ],
)
def test_default_actions(numbers: tuple[int, ...], action: Action) -> None:
    assert {default_action(number) for number in numbers} == {action}


def test_names_and_masks() -> None:
    assert [name_of(n) for n in (11, 32, 34, 0, 65)] == [
        "SIGSEGV",
        "SIGRTMIN",
        "SIGRTMIN+2",
        "signal 0",
        "signal 65",
    ]
    assert signals.UNBLOCKABLE == 0x40100
    assert signals.SYNCHRONOUS & 1 << 10
