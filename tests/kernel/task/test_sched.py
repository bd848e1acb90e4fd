"""Turns, slices, sleep, deadlock, limits: all counted in blocks, all from one seed."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sandbox.debug.goals import Steps
from sandbox.debug.kernel_target import KernelTarget
from sandbox.kernel.base.events import PageFault, SystemCall, TaskSwitch
from sandbox.kernel.task.runqueue import RunQueues
from sandbox.machine.events import Event
from tests.conftest import MakeSession, Run

RACE = """
_start: mov ebp, 4
1:      fork_to child
        dec ebp
        jnz 1b
        mov ebp, 4
2:      sys waitpid, -1, 0, 0
        dec ebp
        jnz 2b
        pass
child:  mov ecx, 40000
3:      inc dword ptr [count]
        loop 3b
        sys getpid
        mov [letter], al
        add dword ptr [letter], '0'
        sys write, 1, "offset letter", 1
        sys exit, 0
        .bss
count:   .skip 4096
letter: .skip 4
"""
SPIN = "_start: jmp _start"


def events(session: MakeSession, **config: object) -> tuple[list[Event], bytes]:
    made = session(RACE, **config)
    seen: list[Event] = []
    made.kernel.bus.subscribe(seen.append, PageFault, SystemCall, TaskSwitch)
    result = made.finish()
    assert result.passed, result.headline()
    return seen, result.stdout


@pytest.mark.parametrize("cpus", [1, 2, 3])
def test_same_seed_same_events(session: MakeSession, cpus: int) -> None:
    first, again = (events(session, cpus=cpus, seed=7, quantum=10_000, turn=5_000) for _ in range(2))
    assert first == again
    assert sorted(first[1]) == sorted(b"4567")


def test_another_seed_another_interleaving(session: MakeSession) -> None:
    seen = {str(events(session, cpus=3, seed=seed, turn=3_000)[0]) for seed in range(4)}
    assert len(seen) > 1


def test_every_cpu_works(session: MakeSession) -> None:
    made = session(RACE, cpus=3)
    made.finish()
    assert all(cpu.clock > 10_000 for cpu in made.machine.cpus)


def test_a_new_task_goes_to_the_least_loaded_cpu() -> None:
    """Of those that its mask allows, a task that runs counted with those that wait."""
    cpus = [SimpleNamespace(index=index, current=index == 0 or None) for index in range(3)]
    queues = RunQueues(cast(Any, cpus))
    queues[1].tasks.extend([cast(Any, None)] * 2)
    assert queues.least_loaded().index == 2
    assert queues.least_loaded(0b011).index == 0
    assert queues.least_loaded(0b010).index == 1


def test_deadlock_names_the_sleeper(run: Run) -> None:
    result = run('_start: sys pipe, "offset fds"\n sys read, [fds], esp, 1\n pass\n .bss\nfds: .skip 8')
    assert "deadlock" in result.error
    assert "task 3" in result.detail
    assert not result.passed


def test_pause_alone_is_a_deadlock(run: Run) -> None:
    assert "deadlock" in run("_start: mov eax, 29\n int 0x80\n pass").error


@pytest.mark.parametrize("cpus", [1, 2])
def test_block_limit(session: MakeSession, cpus: int) -> None:
    made = session(SPIN, cpus=cpus, block_limit=200_000)
    result = made.finish()
    assert "limit" in result.error
    assert 200_000 <= result.summary.blocks < 210_000


def test_time_limit(run: Run) -> None:
    assert "limit" in run(SPIN, time_limit=0.1).error


def test_interrupted(session: MakeSession) -> None:
    made = session(SPIN)
    made.load()
    made.kernel.sched.interrupted = True
    assert made.finish().error == "interrupted"


def test_nanosleep_takes_its_time(run: Run) -> None:
    result = run('_start: sys nanosleep, "offset t", 0\n pass\n .data\nt: .long 2, 5')
    assert result.passed
    assert result.summary.blocks >= 2_000_000_005
    assert result.summary.seconds < 1


@pytest.mark.parametrize("bad", ["-1, 0", "0, 1000000000", "0, -1"])
def test_nanosleep_refuses_bad_times(run: Run, bad: str) -> None:
    text = f"""
_start: sys nanosleep, "offset t", 0
        neg eax
        sys exit, eax
        .data
t:      .long {bad}
"""
    result = run(text)
    assert result.status == 22


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_sleeper_wakes_while_another_task_spins(run: Run, cpus: int) -> None:
    """The timer interrupts whoever runs: the sleeper does not wait for an idle machine."""
    text = """
_start: fork_to child
        mov ebp, 3000000
1:      sys waitpid, -1, 0, WNOHANG
        test eax, eax
        jnz 2f
        dec ebp
        jnz 1b
        mov ebx, 7
        jmp fail
2:      pass
child:  sys nanosleep, "offset t", 0
        sys exit, 0
        .data
t:      .long 0, 50000
"""
    result = run(text, cpus=cpus, block_limit=3_000_000)
    assert (result.status, result.error) == (0, "")


def test_a_sleeper_wakes_while_another_never_calls_the_kernel(run: Run) -> None:
    text = """
_start: sys getpid
        mov ebp, eax
        fork_to child
        sys nanosleep, "offset t", 0
        sys exit, 5
child:  jmp child
        .data
t:      .long 0, 200000
"""
    result = run(text, block_limit=5_000_000)
    assert result.status == 5


def test_preemption_is_fair(run: Run) -> None:
    """Two spinners share a CPU; the third, which ends, is not starved."""
    text = """
_start: fork_to child
        mov ebp, eax
        fork_to child
        mov esi, eax
        mov ecx, 300000
1:      loop 1b
        mov eax, 37
        mov ebx, ebp
        mov ecx, SIGKILL
        int 0x80
        mov eax, 37
        mov ebx, esi
        mov ecx, SIGKILL
        int 0x80
        expect_killed SIGKILL, 1
        expect_killed SIGKILL, 2
        pass
child:  jmp child
"""
    result = run(text, quantum=20_000, block_limit=10_000_000)
    assert result.passed, result.headline()
    assert result.summary.switches > 20


# -- the time limit holds everywhere ---------------------------------------------------------------------------------

ZEROS = """
_start: mov eax, 192                    # mmap2, a gigabyte that is never run twice
        xor ebx, ebx
        mov ecx, 0x40000000
        mov edx, 7
        mov esi, 0x4022
        or edi, -1
        xor ebp, ebp
        int 0x80
        jmp eax
"""
ONE_LONG_CALL = """
_start: sys open, "offset zero", 0
        mov ebx, eax
        mov edi, offset vectors
        mov ecx, 1024
1:      mov dword ptr [edi], offset room
        mov dword ptr [edi+4], 0x400000
        add edi, 8
        loop 1b
        mov eax, 145                    # readv: 4 GB into the same 4 MB
        mov ecx, offset vectors
        mov edx, 1024
        int 0x80
        pass
        .data
zero:   .asciz "/dev/zero"
        .bss
        .balign 4096
vectors: .skip 8192
room:   .skip 0x400000
"""
STORM = "_start: mov eax, 20\n int 0x80\n jmp _start"
FAST_THEN_SLOW = """
_start: mov ecx, 30000000
1:      loop 1b
2:      .rept 400
        rdtsc
        .endr
        jmp 2b
"""


@pytest.mark.parametrize("text", [ZEROS, ONE_LONG_CALL, STORM, FAST_THEN_SLOW])
@pytest.mark.parametrize("steps", [None, 1 << 40])
def test_time_limit_holds_wherever_the_time_goes(session: MakeSession, text: str, steps: int | None) -> None:
    """In code that is never run twice, inside one call, between calls, and while a debugger counts steps."""
    made = session(text, ram=2 << 30, time_limit=0.5)
    began = time.process_time()
    if steps is None:
        result = made.finish()
    else:
        target = KernelTarget("t", made)
        target.resume()
        target.resume(Steps(steps, None, 0))
        assert target.result is not None
        result = target.result
    assert result.error == "limit reached: 0.5 s of host time"
    assert time.process_time() - began < 3.5, "of a processor, which others may keep busy"


TWO_ON_ONE = """
        .set SYS_sched_setaffinity, 241
        .set SYS_getcpu, 318
_start: sys sched_setaffinity, 0, 4, "offset first"
        fork_to child
        fork_to child
        sys waitpid, -1, 0, 0
        sys waitpid, -1, 0, 0
        pass
child:  sys sched_setaffinity, 0, 4, "offset both"
        mov ecx, 200000
1:      loop 1b
        sys exit, 0
        .data
first:  .long 1
both:   .long 3
"""


def test_an_idle_cpu_takes_what_waits(session: MakeSession) -> None:
    """Two begin on one CPU, and may run on both: the idle one takes one of them, which stays in its address space."""
    made = session(TWO_ON_ONE, cpus=2)
    seen: list[TaskSwitch] = []
    made.kernel.bus.subscribe(seen.append, TaskSwitch)
    assert made.finish().passed
    assert {event.cpu for event in seen if event.next in (4, 5)} == {0, 1}


def test_who_may_not_move_waits(session: MakeSession) -> None:
    made = session(TWO_ON_ONE.replace("both:   .long 3", "both:   .long 1"), cpus=2)
    seen: list[TaskSwitch] = []
    made.kernel.bus.subscribe(seen.append, TaskSwitch)
    assert made.finish().passed
    assert {event.cpu for event in seen if event.next in (4, 5)} == {0}
