"""Kernel threads: tasks with numbers of their own that may sleep, and that no run waits for."""

from __future__ import annotations

from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.process.kthread import kernel_thread, run_kthread
from sandbox.kernel.task.task import State
from tests.conftest import MakeSession

TIDY = """
_start: mov     eax, 162                        # nanosleep
        mov     ebx, offset span
        xor     ecx, ecx
        int     0x80
        mov     eax, 1
        xor     ebx, ebx
        int     0x80
span:   .long   0, 1000
"""
"""A program that sleeps a moment and exits."""


def test_it_has_a_number_and_no_run_waits_for_it(session: MakeSession) -> None:
    made = session(TIDY)
    kernel, queue = made.kernel, WaitQueue("nothing")
    seen: list[int] = []

    def life() -> None:
        seen.append(kernel.sched.current.pid)  # type: ignore[union-attr]
        while True:
            kernel.sched.schedule((queue,), "nothing")

    thread = kernel_thread(kernel, "kidle", life)
    result = made.finish()
    assert (result.error, result.status) == ("", 0)
    assert seen == [thread.pid] and thread.pid > 0
    assert thread.state is State.SLEEPING, "the run ended all the same"


def test_it_works_beside_programs_and_is_gone(session: MakeSession) -> None:
    made = session(TIDY)
    kernel, order = made.kernel, []

    def life() -> None:
        order.append("thread")

    thread = kernel_thread(kernel, "once", life)
    assert made.finish().status == 0
    assert order == ["thread"] and thread.pid not in kernel.tasks and thread.state is State.DEAD


def test_an_answer_is_waited_for(session: MakeSession) -> None:
    kernel = session(TIDY).kernel
    before = kernel.tasks.last_pid
    assert run_kthread(kernel, "sum", lambda: 40 + 2) == 42
    assert kernel.tasks.last_pid == before + 1
