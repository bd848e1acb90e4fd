"""Sessions and results: what a run hands back, whatever way it ended."""

from __future__ import annotations

import pytest

from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.events import PageFault, SystemCall
from sandbox.kernel.drivers.console import BytesSource
from sandbox.machine.events import Event
from sandbox.runner.run import BadProgram, Session, Streams, run_program
from tests.conftest import MakeSession, Program, Run

ECHO = """
_start: sys read, 0, "offset buffer", 64
        sys write, 1, "offset buffer", eax
        sys write, 2, "offset buffer", 2
        pass
        .bss
buffer: .skip 64
"""


def test_result_of_a_pass(run: Run, paging: str) -> None:
    result = run('_start: say "out\\n"\n pass', paging=paging)
    assert result.passed
    assert (result.status, result.signal, result.stdout, result.stderr) == (0, 0, b"out\n", b"")
    assert result.headline() == "exit status 0"
    summary = result.summary
    assert summary.page_faults >= len(result.faults) > 0
    assert summary.system_calls == 2
    assert summary.blocks > 0
    assert 0 < summary.frames_free < summary.frames_total
    assert summary.seconds < 5


def test_headlines(run: Run) -> None:
    assert run("_start: sys exit, 3").headline() == "exit status 3"
    assert run("_start: ud2").headline() == "killed by SIGILL"
    assert "limit" in run("_start: jmp _start", block_limit=100_000).headline()


def test_streams(program: Program) -> None:
    sunk: list[bytes] = []
    streams = Streams(BytesSource(b"input"), sunk.append)
    result = run_program("echo", program(ECHO), (), KernelConfig(), streams)
    assert sunk == [b"input"]
    assert (result.stdout, result.stderr) == (b"", b"in")


@pytest.mark.parametrize(("name", "path"), [("echo", "/bin/echo"), ("/usr/lib/x/echo", "/usr/lib/x/echo")])
def test_where_the_program_is(program: Program, name: str, path: str) -> None:
    shown = program(f"_start: mov ecx, [esp + 4]\n sys write, 1, ecx, {len(path)}\n pass")
    assert run_program(name, shown, (), KernelConfig()).stdout == path.encode()


def test_only_the_first_tasks_end_counts(run: Run) -> None:
    result = run("_start: fork_to child\n sys waitpid, -1, 0, 0\n sys exit, 4\nchild: ud2")
    assert (result.status, result.signal) == (4, 0)
    assert [(pid, number) for pid, _, number, _ in result.deaths] == [(4, 4)]


def test_children_that_outlive_the_first_task_still_run(run: Run) -> None:
    child = 'child: sys nanosleep, "offset t", 0\n say "late"\n sys exit, 9\n .data\nt: .long 1, 0'
    result = run(f"_start: fork_to child\n pass\n{child}")
    assert result.passed
    assert result.stdout == b"late"


def test_readers_see_events_and_cost_nothing(program: Program) -> None:
    text = program("_start: sys getpid\n pass")
    seen: list[Event] = []
    with_reader = run_program("t", text, readers=[(seen.append, (SystemCall,))])
    without = run_program("t", text)
    assert next(event.name for event in seen if isinstance(event, SystemCall)) == "getpid"
    assert with_reader.summary.blocks == without.summary.blocks


def test_same_run_twice(program: Program) -> None:
    def once() -> tuple[list[PageFault], object]:
        result = run_program("t", program(ECHO), (), KernelConfig(seed=3), record_faults=True)
        result.summary.seconds = 0
        return result.faults, result.summary

    assert once() == once()


def test_no_program(program: Program) -> None:
    for data in (b"", b"#!/bin/sh\n", program("_start: pass")[:80]):
        with pytest.raises(BadProgram) as caught:
            run_program("bad", data)
        assert "bad" in caught.value.summary
        assert caught.value.exit_status == 2


def test_to_dict_is_plain_data(run: Run) -> None:
    import json

    result = run('_start: sys write, 1, "offset text", 3\n ud2\n .data\ntext: .byte 0xff, 0xfe, 10')
    found = json.loads(json.dumps(result.to_dict()))
    assert found["signal"] == "SIGILL"
    assert found["passed"] is False
    assert found["deaths"][0]["command"] == "t"


def test_load_is_once_and_runs_nothing(session: MakeSession) -> None:
    made = session('_start: say "x"\n pass')
    task = made.load()
    assert made.load() is task
    assert made.summary().system_calls == 0
    assert made.finish().stdout == b"x"


def test_many_machines_one_after_the_other(program: Program) -> None:
    """Handles and memory are given back: sixty machines with 8 CPUs fit."""
    data = program("_start: pass")
    for _ in range(60):
        with Session("t", data, (), KernelConfig(cpus=8, ram=1 << 30)) as session:
            assert session.finish().passed


def test_environment_and_arguments_with_odd_bytes(run: Run) -> None:
    text = "_start: mov ecx, [esp+8]\n movzx ebx, byte ptr [ecx+1]\n mov eax, 1\n int 0x80"
    assert run(text, ("a\udcffb",)).status == 0xFF
