"""Checkpoints: bounded, told when they cannot be, and gone with their face (proc(5), fork(2), unix(7))."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.debug import host_costs, timeline, worker
from sandbox.debug.debugger import Debugger
from sandbox.debug.goals import Until
from sandbox.debug.open import open_target
from sandbox.debug.worker import Remote, WorkerGone
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.target import resolve
from tests.conftest import Program
from tests.debug.test_travel import remote, state
from tests.patience import alive, busy, until

ENDLESS = "_start: mov ecx, 4096\n1: inc dword ptr [room]\n loop 1b\n jmp _start\n .bss\nroom: .skip 4096\n"


def pids(debugger: Debugger) -> list[int]:
    """Of the checkpoints, and of the process that runs."""
    assert debugger.target.timeline is not None
    return [*(mark.pid for mark in debugger.target.timeline.marks), os.getpid()]


def gone(found: list[int]) -> bool:
    """None is left; that may take them a while."""
    until(lambda: not any(map(alive, found)))
    return True


def some(made: Remote) -> list[int]:
    """Walk, with a few checkpoints on the way."""
    for _ in range(3):
        made.execute("step 3")
        made.call(taken)
    made.execute("reverse-step")
    found: list[int] = made.call(pids)
    assert len(found) > 3
    return found


def taken_in_an_interrupt(debugger: Debugger) -> None:
    """As between Ctrl-C and the stop that it leads to."""
    control = debugger.target.control
    control.interrupted = True
    taken(debugger)
    control.interrupted = False


def test_an_interrupt_is_not_kept_for_the_way_back() -> None:
    with remote("cow-fork") as made:
        made.execute("step 3")
        made.call(taken_in_an_interrupt)
        before = made.execute("step 2").stop
        made.execute("step 3")
        after = made.execute("reverse-step 3").stop
        assert before is not None and after is not None and after.moment == before.moment


def test_closing_ends_all_of_them() -> None:
    with remote("cow-fork") as made:
        found = some(made)
    assert gone(found)


def test_a_worker_that_is_killed_takes_them_along() -> None:
    with remote("cow-fork") as made:
        found = some(made)
        os.kill(made.pid, signal.SIGKILL)
        with pytest.raises(WorkerGone):
            made.execute("step")
        assert gone(found)


@pytest.mark.parametrize("running", [False, True])
def test_a_face_that_is_killed_takes_them_along(running: bool, program: Program, tmp_path: Path) -> None:
    """At the prompt, and while the guest runs for ever."""
    path = tmp_path / "endless"
    path.write_bytes(program(ENDLESS))
    ours, theirs = os.pipe()
    face = os.fork()
    if not face:
        image = resolve(path)
        made = Remote(lambda: open_target(image, KernelConfig(time_limit=0)))
        os.write(theirs, " ".join(map(str, some(made))).encode() + b"\n")
        if running:
            made.execute("continue")
        signal.pause()
        os._exit(0)
    os.close(theirs)
    try:
        found = [int(each) for each in os.read(ours, 4096).split()]
        if running:
            busy(found[-1], 0.2)
    finally:
        os.close(ours)
        os.kill(face, signal.SIGKILL)
        os.waitpid(face, 0)
    assert found and gone(found)


def test_two_faces_of_one_process() -> None:
    """The second worker holds no end of the first's pipe."""
    with remote("cow-fork") as first:
        found = some(first)
        with remote("cow-fork") as second:
            first.close()
            assert gone(found)
            assert second.execute("step").stop is not None


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and not alive(pid)


def test_no_zombies() -> None:
    """Whoever goes back leaves the process that ran so far, and the checkpoints of its future: all are waited for.

    The first of all is waited for by its face, at the end.
    """
    seen = set[int]()
    with remote("cow-fork") as made:
        first = made.pid
        for _ in range(4):
            made.execute("step 5")
            made.call(taken)
            seen |= {*made.call(pids)}
            made.execute("goto start")
        until(lambda: sum(not alive(each) for each in seen) > 3)
        until(lambda: not any(is_zombie(each) for each in seen - {first}))
    until(lambda: not any(Path(f"/proc/{each}").exists() for each in seen))


def test_a_face_with_threads() -> None:
    """Threads that began before, and calls from one that is not the first."""
    stop = threading.Event()
    waits = threading.Thread(target=stop.wait)
    waits.start()
    try:
        with remote("cow-fork") as made:
            said: list[object] = []
            asks = threading.Thread(target=lambda: said.append(made.execute("step 3").stop))
            asks.start()
            asks.join(60)
            assert said and not made.execute("reverse-step").error
    finally:
        stop.set()
        waits.join()


def refusing(after: int) -> Callable[[], int]:
    """fork(2) on a host that has no process left, from some time on."""
    fork, calls = os.fork, 0

    def refuse() -> int:
        nonlocal calls
        calls += 1
        if calls > after:
            raise BlockingIOError(11, os.strerror(11))
        return fork()

    return refuse


def test_a_host_that_has_no_process_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on and says so; one can go back as far as there are checkpoints."""
    monkeypatch.setattr(os, "fork", refusing(after=2))  # the worker, and the first checkpoint
    with remote("cow-fork") as made:
        made.execute("step")
        made.call(taken)
        told = made.execute("when")
        assert "no checkpoint could be made: Resource temporarily unavailable" in told.lines
        assert made.execute("step").stop is not None


def test_no_checkpoint_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", refusing(after=1))
    with remote("cow-fork") as made:
        assert "no checkpoint could be made: Resource temporarily unavailable" in made.first.lines
        made.execute("step")
        assert made.execute("reverse-step").error
        assert made.execute("step").stop is not None


def test_a_checkpoint_that_was_killed() -> None:
    with remote("cow-fork") as made:
        made.execute("step 4")
        before = made.call(state)
        for each in made.call(pids)[:-1]:
            os.kill(each, signal.SIGKILL)
        assert "the checkpoint cannot go on" in made.execute("reverse-step").error
        assert made.call(state) == before
        assert made.execute("step").stop is not None


def bounded(debugger: Debugger, most: int) -> tuple[int, int]:
    """Bytes held by the checkpoints, and how many there are, once they were thinned."""
    kept, timeline.MOST_MEMORY = timeline.MOST_MEMORY, most
    line = debugger.target.timeline
    assert line is not None
    line._measure_at = 0.0
    line._thin()
    timeline.MOST_MEMORY = kept
    return sum(host_costs.held_by(mark.pid) for mark in line.marks), len(line.marks)


def test_memory_is_bounded() -> None:
    with remote("cow-fork") as made:
        for _ in range(8):
            made.execute("step")
            made.call(taken)
        held, count = made.call(bounded, 1 << 40)
        assert held > 0 and count >= 8
        assert made.call(bounded, 1)[1] < count


def taken(debugger: Debugger) -> None:
    """A checkpoint of this place."""
    target = debugger.target
    assert target.timeline is not None
    target.timeline.take(target.moment(target.cpu), target.fault_count)


def test_two_gigabytes_of_ram() -> None:
    with remote("cow-fork", ram=2 << 30) as made:
        made.execute("step 5")
        assert not made.execute("reverse-step 3").error
        made.execute("continue")
        assert not made.execute("goto start").error


def test_patience_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PATIENCE", 0.2)
    said = []
    with remote("cow-fork") as made:
        made.patience = lambda: said.append(1)
        made.call(time_passes, 0.7)
    assert said == [1]


def time_passes(debugger: Debugger, seconds: float) -> None:
    """It takes so long."""
    time.sleep(seconds)


def test_more_checkpoints_than_one_message_has_descriptors_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux sends at most 253 of them at once (SCM_MAX_FD)."""
    monkeypatch.setattr(timeline, "MOST", 1000)
    with remote("cow-fork") as made:
        places = []
        for _ in range(260):
            stop = made.execute("into").stop
            assert stop is not None
            places.append(stop.moment)
            made.call(taken)
        for at in (259, 130, 1):
            assert not made.execute(f"goto {places[at].text()}").error
            stop = made.execute("when").data["moment"]
            assert stop == places[at].text()


@pytest.mark.parametrize("back", [False, True], ids=["the first", "a checkpoint's copy"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, 2), (signal.SIGSEGV, 3)])
def test_how_a_worker_died_is_told(number: signal.Signals, status: int, back: bool) -> None:
    """wait(2): whoever's child it was; by somebody else's hand is no fault of ours."""
    with remote("cow-fork") as made:
        made.execute("step 3")
        if back:
            made.execute("reverse-step")
        os.kill(made.pid, number)
        with pytest.raises(WorkerGone) as caught:
            made.execute("step")
        assert f"killed by signal {int(number)} ({number.name})" in caught.value.summary
        assert (caught.value.exit_status, "\n" in caught.value.summary) == (status, False)
        assert "lost" in caught.value.detail


def in_short_ways(debugger: Debugger, seconds: float) -> int:
    """Run on in ways of some thousand blocks; how many checkpoints there are more."""
    line, end = debugger.target.timeline, time.monotonic() + seconds
    assert line is not None
    before = len(line.marks)
    while time.monotonic() < end:
        debugger.go(Until(debugger.target.now + 4000))
    return len(line.marks) - before


def test_many_short_ways_have_checkpoints_too(program: Program, tmp_path: Path) -> None:
    """A row of legs is a run like any other: two or more in a second, FIRST_SPACING being a tenth of it."""
    path = tmp_path / "endless"
    path.write_bytes(program(ENDLESS))
    image = resolve(path)
    with Remote(lambda: open_target(image, KernelConfig(time_limit=0))) as made:
        assert made.call(in_short_ways, 1.5) >= 2
