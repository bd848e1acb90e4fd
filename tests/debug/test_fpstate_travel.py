"""Going back finds x87 and SSE as they were: registers, tags, flags and MXCSR of every CPU."""

from __future__ import annotations

import random

import pytest

from sandbox.debug.debugger import Debugger
from sandbox.debug.stops import Moment
from tests.debug.test_travel import remote


def floating(debugger: Debugger) -> tuple[Moment, list[bytes]]:
    assert debugger.stop is not None
    return debugger.stop.moment, [cpu.context.fxsave() for cpu in debugger.target.machine.cpus]


@pytest.mark.parametrize("changes", [{}, {"cpus": 2, "seed": 3}], ids=str)
def test_every_moment_has_its_floating_point(changes: dict[str, int]) -> None:
    chosen = random.Random(11)
    with remote("fpu-switch", **changes) as made:
        seen = [made.call(floating)]
        while len(seen) < 16:
            answer = made.execute(f"step {chosen.choice([1, 3, 40, 300])}")
            if answer.stop is None or answer.stop.ended:
                break
            seen.append(made.call(floating))
        assert len({tuple(states) for _, states in seen}) > 1
        chosen.shuffle(seen)
        for moment, states in seen[:8]:
            assert not made.execute(f"goto {moment.text()}").error
            assert made.call(floating) == (moment, states)
