"""Checkpoints: what goes on from one ends as the run that it was taken of, and what is kept is bounded."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import io
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sandbox.cli
from sandbox.engine.checkpoint import Keeper, Line, LineDied, NoCheckpoint
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Exit, Trap
from tests.engine.board import Board

IMAGES = Path(__file__).parents[2] / "images"


@contextlib.contextmanager
def keeping(play: Callable[[Line], object], **how: Any) -> Iterator[Keeper]:
    keeper = Keeper(play, **how)
    try:
        yield keeper
    finally:
        keeper.close()


def counting(line: Line) -> None:
    """A loop of 40 traps, with a checkpoint every ten, then the state."""
    board = Board()
    board.load("mov ecx, 40\n1: int 0x21\nadd [esp-8], ecx\nloop 1b\nint 0x80")
    for number in range(1000):
        exit_ = board.cpu.run(1 << 20)
        assert isinstance(exit_, Trap)
        if exit_.vector == 0x80:
            break
        if number % 10 == 0:
            line.checkpoint((board.cpu.clock, number))
    state = board.cpu.context
    line.send((board.cpu.clock, state.general(), hashlib.sha256(board.memory).hexdigest()))
    line.receive()


def test_a_copy_ends_as_the_run_did() -> None:
    with keeping(counting) as keeper:
        wanted = keeper.receive()
        assert [number for _, number in keeper.moments()] == [0, 10, 20, 30]
        for moment in (keeper.moments()[2], keeper.moments()[0], keeper.moments()[3], keeper.moments()[0]):
            assert keeper.go_back(moment) == moment
            assert keeper.receive() == wanted
        assert len(keeper.kept) == 4, "a moment is kept once, however often it is passed"


def test_the_last_one_before_a_moment(counted: Keeper) -> None:
    moments = counted.moments()
    assert counted.go_back((moments[1][0], moments[1][1] + 3)) == moments[1]
    with pytest.raises(NoCheckpoint):
        counted.go_back((0, 0))
    assert counted.receive(), "the live one stays when there is nothing to go back to"


@pytest.fixture
def counted() -> Iterator[Keeper]:
    with keeping(counting) as keeper:
        keeper.receive()
        yield keeper


def test_nothing_is_left_behind(counted: Keeper) -> None:
    pids = [each.pid for each in counted.kept]
    counted.go_back(counted.moments()[0])
    counted.receive()
    counted.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_checkpoint_ignores_ctrl_c(counted: Keeper) -> None:
    for each in counted.kept:
        os.kill(each.pid, signal.SIGINT)
    counted.go_back(counted.moments()[0])
    assert counted.receive()


def test_a_death_is_told() -> None:
    with keeping(lambda line: os._exit(7)) as keeper, pytest.raises(LineDied):
        keeper.receive()


def test_a_process_with_threads_is_refused() -> None:
    def play(line: Line) -> None:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        try:
            line.checkpoint((0,))
        except NoCheckpoint as error:
            line.send(error.summary)

    with keeping(play) as keeper:
        assert "threads" in keeper.receive()


def test_what_is_kept_is_thinned_out() -> None:
    def play(line: Line) -> None:
        for number in range(40):
            line.checkpoint((number,))
        line.send("done")
        line.receive()

    with keeping(play, most=8) as keeper:
        keeper.receive()
        kept = [number for (number,) in keeper.moments()]
        assert len(kept) <= 8 and kept[0] == 0 and kept[-1] >= 38
        assert keeper.private_bytes() > 0


def test_spacing_doubles() -> None:
    def play(line: Line) -> None:
        made, began = 0, time.monotonic()
        while time.monotonic() - began < 0.5:
            if line.due():
                line.checkpoint((made,))
                made += 1
        line.send(made)

    with keeping(play, interval=0.01, most=4) as keeper:
        assert keeper.receive() <= 20, "every 10 ms would be 50 of them"


# -- whole machines: programs, a module, ROMs -------------------------------------------------------------------------


class Recorder:
    """What a run of the command comes to: status, text, clocks and registers of CPUs and memory at their end."""

    def __init__(self, line: Line, every: int) -> None:
        self._line, self._every, self._runs = line, every, 0
        self._ends: list[object] = []

    def run(self, arguments: list[str]) -> object:
        self._wrap()
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            status = sandbox.cli.main(["run", "--json", *arguments])
        gc.collect()
        text = re.sub(r'"(seconds|guest|kernel routines|python)[^\n]*|[0-9.]+ (m?s|µs)\b', "", out.getvalue())
        return status, text, self._ends

    def _wrap(self) -> None:
        run, close = Cpu.run, Cpu.close

        def counted(cpu: Cpu, blocks: int, steps: int | None = None) -> Exit:
            exit_ = run(cpu, blocks, steps)
            self._runs += 1
            if not self._runs % self._every:
                self._line.checkpoint((self._runs,))
            return exit_

        def closed(cpu: Cpu) -> None:
            self._ends.append((cpu.index, cpu.clock, cpu.context.general(), memory_hash(cpu)))
            close(cpu)

        Cpu.run, Cpu.close = counted, closed  # type: ignore[method-assign, assignment]


def memory_hash(cpu: Cpu) -> str:
    """Of all RAM that a CPU sees."""
    found = hashlib.blake2b()
    for _, size, host in cpu.handle.ram:
        found.update((ctypes.c_char * size).from_address(host))
    return found.hexdigest()


@pytest.mark.parametrize(
    ("arguments", "every"),
    [
        (["cow-fork"], 8),
        (["--cpus", "2", "fork-tree"], 60),
        (["module-asm"], 2),
        (["rom-accessed-dirty"], 1),
        (["rom-card-dma"], 1),
    ],
    ids=lambda value: "-".join(value).lstrip("-") if isinstance(value, list) else "",
)
def test_machines_go_on_alike(arguments: list[str], every: int) -> None:
    Cpu().close()  # the first one of a process tests itself, by runs that would be counted

    def play(line: Line) -> None:
        line.send(Recorder(line, every).run([*arguments[:-1], str(IMAGES / arguments[-1])]))
        line.receive()

    with keeping(play, most=100) as keeper:
        wanted = keeper.receive()
        moments = keeper.moments()
        assert wanted[0] == 0 and len(moments) >= 2 and wanted[2]
        for moment in (moments[-1], moments[0], moments[len(moments) // 2]):
            keeper.go_back(moment)
            assert keeper.receive() == wanted, moment
