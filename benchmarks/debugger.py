"""The debugger beside a run without it: attached, with points of all kinds set, with checkpoints; and its own pace.

All in one process with the run it is compared to, in processor time, but for what goes over the pipe.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks import programs
from benchmarks.measure import Row, interleaved, seconds
from sandbox.debug.debugger import Debugger
from sandbox.debug.goals import Until
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.worker import Remote
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import Session

STEPS = 1000
PIPED = 300
GOAL = 100
"""Microseconds that a step through the pipe is meant to take."""
FAR = 100_000_000
"""Instructions before the place from which one goes back."""
INSTRUCTIONS_A_BLOCK = 5
_ELSEWHERE = 0x7000_0000
"""Nothing is there."""


def _session(program: bytes) -> Session:
    return Session("bench", program, [], KernelConfig(time_limit=0))


def _free(program: bytes) -> float:
    with _session(program) as session:
        session.load()
        began = time.process_time()
        session.finish()
        return time.process_time() - began


def _debugged(program: bytes, *commands: str) -> float:
    """From the first instruction on to the end, with these points set."""
    target = KernelTarget("bench", _session(program))
    debugger = Debugger(target)
    debugger.begin()
    for line in commands:
        if debugger.execute(line).error:
            raise RuntimeError(f"{line}: refused")
    began = time.process_time()
    while target.result is None:
        debugger.go()
    took = time.process_time() - began
    target.close()
    return took


def _steps(program: bytes) -> float:
    """STEPS commands ``step`` in the core, each a stop of its own."""
    target = KernelTarget("bench", _session(program))
    debugger = Debugger(target)
    debugger.begin()
    began = time.process_time()
    for _ in range(STEPS):
        debugger.execute("step")
    took = time.process_time() - began
    target.close()
    return took


def forward(debugger: Debugger, blocks: int) -> float:
    """Run on by so many blocks; processor seconds, those of forks and of the copies of pages behind them counted in."""
    began = time.process_time()
    debugger.go(Until(debugger.target.now + blocks))
    return time.process_time() - began


def _plain(program: bytes, blocks: int) -> float:
    """The same without checkpoints and without a pipe."""
    target = KernelTarget("bench", _session(program))
    debugger = Debugger(target)
    debugger.begin()
    took = forward(debugger, blocks)
    target.close()
    return took


def _kept(program: bytes, blocks: int) -> float:
    """The same with checkpoints, in a process of its own."""
    with Remote(lambda: KernelTarget("bench", _session(program))) as remote:
        return float(remote.call(forward, blocks))


def nothing(debugger: Debugger) -> None:
    """What the worker is asked for when the pipe itself is measured."""


def _through(remote: Remote) -> tuple[float, float]:
    """Seconds of a command `step` over the pipe, and of a question that is no work, by turns: the least of each."""
    steps, turns = [], []
    for _ in range(PIPED):
        steps.append(seconds(lambda: remote.execute("step")))
        turns.append(seconds(lambda: remote.call(nothing)))
    return min(steps), min(turns)


def rows() -> Iterator[Row]:
    yield from _against_free("a loop", programs.loop("rep stosd"))
    yield from _against_free("page faults", programs.demand_zero())
    yield from _paces(programs.loop("loop of 5"))


def _against_free(what: str, program: bytes) -> Iterator[Row]:
    ways: dict[str, tuple[str, ...]] = {
        "attached, no point set": (),
        "a linear watch elsewhere": (f"watch {_ELSEWHERE:#x}",),
        "a physical watch elsewhere": ("watch physical 0x2000",),
        "a catch of what does not occur": ("catch module",),
        "a catch of an answer that is not given": ("catch sigsegv",),
    }
    samplers: dict[str, Callable[[], float]] = {"free": partial(_free, program)}
    samplers.update({name: partial(_debugged, program, *commands) for name, commands in ways.items()})
    took = interleaved(samplers, 5)
    for (name, _), bar in zip(ways.items(), (97, 90, 90, 90.9, 90.9), strict=True):
        yield Row(f"{what}, {name}", 100 * took["free"] / took[name], "%", bar, True)


def _paces(program: bytes) -> Iterator[Row]:
    step = interleaved({"core": partial(_steps, program)}, 3)["core"] / STEPS
    yield Row("a command `step` in the core, with its stop", 1e6 * step, "µs")
    blocks = FAR // INSTRUCTIONS_A_BLOCK
    ways = {"plain": partial(_plain, program, blocks), "kept": partial(_kept, program, blocks)}
    took = interleaved(ways, 5)
    yield Row("forward with checkpoints", took["kept"] / took["plain"], "x", 1.15)
    with Remote(lambda: KernelTarget("bench", _session(program))) as remote:
        early, empty = _through(remote)
        note = f"{1e6 * early:.0f} µs, goal {GOAL}, against {1e6 * empty:.0f} µs"
        yield Row("a step through the pipe against an empty turn of it", early / empty, "x", 3.6, note=note)
        remote.call(forward, blocks)
        late = min(seconds(lambda: remote.execute("step")) for _ in range(PIPED))
        yield Row("a step 100 million instructions later", late / early, "x", 1.5)
        yield Row("the first answer on the way back", seconds(lambda: remote.execute("reverse-step")), "s", 1)
