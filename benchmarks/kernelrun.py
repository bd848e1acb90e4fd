"""Programs under the kernel, timed from outside and from inside."""

from __future__ import annotations

import time

from sandbox.engine.exits import BlocksSpent, Paused, Trap
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.task.task import Task
from sandbox.runner.run import Session, run_program

GETPID = 20
ENDLESS = 1 << 60


def run_seconds(program: bytes, paging: str = "pae") -> float:
    """Processor seconds from the first instruction to the end of the program; boot and loading are not in it."""
    with Session("benchmark", program, (), KernelConfig(paging=paging)) as session:
        session.load()
        began = time.process_time()
        result = session.finish()
        took = time.process_time() - began
    assert result.passed, result
    return took


def kernel_and_bare_seconds(program: bytes) -> tuple[float, float]:
    """Processor seconds of a program under the kernel, and of the same translated code run again without it.

    When the program asks to exit, its CPU is sent back to the program's first instruction and runs to the same place in
    one go: the same engine, the same block hook, the same host code, no kernel in between.
    """
    taken: list[float] = []
    with Session("benchmark", program, (), KernelConfig(time_limit=0)) as session:
        task = session.load()
        entry, stack = task.context.eax, task.context.edx
        traps = session.system.traps
        dispatch = traps._dispatch

        def at_exit(leaving: Task) -> None:
            taken.append(time.process_time() - began)
            cpu = leaving.cpu.vcpu
            again = cpu.context = cpu.new_context()
            again.copy_from(leaving.context)
            again.eip, again.esp = entry, stack
            restarted = time.process_time()
            exit_ = cpu.run(ENDLESS)
            while isinstance(exit_, BlocksSpent | Paused):
                exit_ = cpu.run(ENDLESS)
            taken.append(time.process_time() - restarted)
            assert isinstance(exit_, Trap) and exit_.software, exit_
            cpu.context = leaving.context
            dispatch(leaving)

        traps._dispatch = at_exit
        began = time.process_time()
        result = session.finish()
    assert result.passed, result
    return taken[0], taken[1]


def marked_seconds(
    program: bytes, paging: str = "pae", sanitize: frozenset[str] = frozenset(), boot: str = "", ram: int = 64 << 20
) -> list[float]:
    """Processor seconds between each first and second getpid of a program; the system calls are not in it.

    What a sanitizer has put off is done at each of them, and is in it.
    """
    times: list[float] = []
    config = KernelConfig(paging=paging, ram=ram, time_limit=0, sanitize=sanitize, boot=boot)
    with Session("benchmark", program, (), config) as session:
        session.load()
        traps = session.system.traps
        dispatch, watched = traps._dispatch, session.sanitizer

        def timed(task: Task) -> None:
            if task.context.eax != GETPID:
                dispatch(task)
                return
            if watched is not None:
                watched.tlb.feed.drain()
            times.append(time.process_time())
            dispatch(task)
            times.append(time.process_time())

        traps._dispatch = timed
        result = session.finish()
    assert result.passed, result
    return [times[at + 2] - times[at + 1] for at in range(0, len(times), 4)]


def whole_seconds(program: bytes, ram: int = 64 << 20) -> float:
    """Host seconds from nothing to the result, the machine closed again."""
    began = time.perf_counter()
    result = run_program("benchmark", program, (), KernelConfig(ram=ram))
    took = time.perf_counter() - began
    assert result.passed, result
    return took


def boot_seconds(program: bytes, ram: int) -> float:
    """Host seconds of building a machine with its kernel; closing it is not in it."""
    began = time.perf_counter()
    session = Session("benchmark", program, (), KernelConfig(ram=ram))
    took = time.perf_counter() - began
    session.close()
    return took
