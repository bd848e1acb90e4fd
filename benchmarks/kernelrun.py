"""Programs under the kernel, timed from outside and from inside."""

from __future__ import annotations

import time

from sandbox.kernel.config import KernelConfig
from sandbox.kernel.task import Task
from sandbox.runner.run import Session, run_program

GETPID = 20


def run_seconds(program: bytes, paging: str = "pae") -> float:
    """Processor seconds from the first instruction to the end of the program; boot and loading are not in it."""
    with Session("benchmark", program, (), KernelConfig(paging=paging)) as session:
        session.load()
        began = time.process_time()
        result = session.finish()
        took = time.process_time() - began
    assert result.passed, result
    return took


def marked_seconds(program: bytes, paging: str = "pae") -> list[float]:
    """Processor seconds between each first and second getpid of a program; the system calls are not in it."""
    times: list[float] = []
    with Session("benchmark", program, (), KernelConfig(paging=paging, time_limit=0)) as session:
        session.load()
        calls = session.kernel.syscalls
        dispatch = calls.dispatch

        def timed(task: Task) -> None:
            if task.context.eax != GETPID:
                dispatch(task)
                return
            times.append(time.process_time())
            dispatch(task)
            times.append(time.process_time())

        calls.dispatch = timed  # type: ignore[method-assign]
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
