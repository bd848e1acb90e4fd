"""What goes wrong on purpose: named steps, and one request for frames."""

from __future__ import annotations

import pytest

from sandbox.kernel.base.inject import SWITCHES, Breakage, FailingRequest, OutOfMemory


def test_only_what_was_asked_for_is_left_out() -> None:
    broken = Breakage(frozenset({"no-flush"}))
    assert [switch for switch in SWITCHES if broken(switch)] == ["no-flush"]


def test_a_switch_that_is_not_there_is_our_mistake() -> None:
    with pytest.raises(KeyError):
        Breakage()("no-such-switch")


def test_the_chosen_request_fails_and_no_other() -> None:
    failing = FailingRequest()
    failing.arm(3)
    failing.count()
    failing.count()
    with pytest.raises(OutOfMemory, match="request 3 for frames fails"):
        failing.count()
    failing.count()
    assert failing.seen == 4
