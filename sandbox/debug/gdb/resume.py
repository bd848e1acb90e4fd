"""In the worker: the guest runs on, back, or from its beginning, and signals become what gdb says."""

from __future__ import annotations

from typing import Any

from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.gdb.threads import Halt, halted, select, task_of
from sandbox.debug.goals import Steps
from sandbox.debug.journey import Journey
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.stops import Moment, StopKind
from sandbox.debug.target import WRAP, Refused
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.records import replace

SI_KERNEL, TRAP_BRKPT, TRAP_TRACE = 0x80, 1, 2
SIGINT, SIGTRAP = 2, 5
USER = 3
MOST_RETURNS = 64
"""Instructions that the kernel's return to a new program may have."""


def go_on(debugger: Debugger, step_of: int | None, span: tuple[int, int] | None = None) -> Halt:
    """Run on; ``step_of`` is the thread that shall run one instruction, None for all to the next stop.

    With ``span`` it steps for as long as EIP is in there: from the first address up to the second.
    """
    if step_of is None:
        return _at_entry(debugger, halted(debugger, debugger.go()))
    select(debugger, step_of)
    while True:
        stop = debugger.go(_one_step(debugger))
        if span is None or stop.kind is not StopKind.STEP or not span[0] <= debugger.target.context.eip < span[1]:
            return _at_entry(debugger, halted(debugger, stop))


def _at_entry(debugger: Debugger, halt: Halt) -> Halt:
    """Behind an exec: the new program stands at its first instruction, to which the kernel has still to return."""
    if halt.news is None or halt.news.what != "exec":
        return halt
    for _ in range(MOST_RETURNS):
        if debugger.target.context.cpl == USER:
            break
        if debugger.go(Steps(1, ("task", halt.thread))).kind is not StopKind.STEP:
            break
    here = halted(debugger)
    return here if here.ended else replace(here, news=halt.news)


def _one_step(debugger: Debugger) -> Steps:
    target = debugger.target
    if debugger.threads_are_cpus:
        return Steps(1, None, target.viewed_cpu)
    return Steps(1, debugger.flow)


def go_back(debugger: Debugger, step: bool) -> Any:
    """Back by an instruction, or to the last stop before this one; the copy of a checkpoint answers."""
    traveller, stop = debugger.traveller, debugger.stop
    if traveller is None or stop is None:
        return halted(debugger, replay_end="begin")
    flow = debugger.flow_back
    journey = Journey(stop.moment, debugger.snapshot(), "step" if step else "hit", flow=flow, face=_went_back)
    try:
        traveller.leave(journey)
    except Refused:
        return halted(debugger, replay_end="begin")


def _went_back(debugger: Debugger) -> Halt:
    at_first = debugger.stop is not None and debugger.stop.headline == "the beginning"
    return halted(debugger, replay_end="begin" if at_first else "")


def restart(debugger: Debugger) -> Any:
    """To the first instruction."""
    assert debugger.traveller is not None
    debugger.traveller.leave(Journey(Moment(0, 0, 0), debugger.snapshot(), face=halted))


def hold_back(debugger: Debugger, wanted: list[tuple[int, int]], processes: list[int] | None) -> Answer:
    """Only these threads go on, (process, thread) with -1 for any: the others of ``processes``, None for all, do not.

    Whoever is of no such process goes on as always.
    """
    target = debugger.target
    at_end = debugger.stop is not None and debugger.stop.ended
    if not isinstance(target, KernelTarget) or debugger.threads_are_cpus or at_end:
        return Answer()
    held = frozenset(
        task.pid
        for task in target.kernel.tasks.values()
        if task.runs and not task.kthread and (processes is None or task.tgid in processes)
        if not any(process in (-1, task.tgid) and thread in (-1, task.pid) for process, thread in wanted)
    )
    changed = held != target.judge.held
    target.judge.hold(held)
    return Answer(changed=changed)


def free(debugger: Debugger, thread: int) -> Answer:
    """One thread is not held back any more."""
    target = debugger.target
    if not isinstance(target, KernelTarget) or thread not in target.judge.held:
        return Answer()
    target.judge.hold(target.judge.held - {thread})
    return Answer(changed=True)


# -- signals -----------------------------------------------------------------------------------------------------


def decide(debugger: Debugger, thread: int, number: int) -> Answer:
    """A thread goes on with a signal, or without one (0).

    Where it stands before the delivery of one, that becomes this; anywhere else it is sent.
    """
    target, stop = debugger.target, debugger.stop
    if not isinstance(target, KernelTarget) or stop is None or stop.ended:
        return Answer()
    if stop.details.get("event") == "signal" and (debugger.threads_are_cpus or stop.pid == thread):
        target.judge.verdict = number
        return Answer(changed=number != stop.details["signal"])
    task = task_of(debugger, thread) if number else None
    if task is not None:
        target.judge.inject(task, number)
    return Answer(changed=task is not None)


def siginfo(debugger: Debugger) -> bytes | None:
    """``siginfo_t`` of the present stop as ptrace(2) has it; None where nothing has one."""
    target, stop = debugger.target, debugger.stop
    if not isinstance(target, KernelTarget) or stop is None or stop.ended:
        return None
    if target.judge.info is not None:
        return target.judge.info.pack()
    details = stop.details
    if details.get("event") == "signal":
        return SigInfo(details["signal"], details["code"], bytes.fromhex(details["union"])).pack()
    if stop.kind is StopKind.INTERRUPT:
        return SigInfo.sent(SIGINT, SI_KERNEL, 0).pack()
    if stop.kind is StopKind.BREAKPOINT:
        return SigInfo.sent(SIGTRAP, SI_KERNEL, 0).pack()
    return SigInfo.fault(SIGTRAP, TRAP_TRACE, target.context.linear_eip & WRAP).pack()


def set_siginfo(debugger: Debugger, data: bytes, offset: int) -> Answer:
    """Change what is known of the signal that is about to be delivered."""
    target, stop, now = debugger.target, debugger.stop, siginfo(debugger)
    if not isinstance(target, KernelTarget) or stop is None or stop.details.get("event") != "signal" or now is None:
        return Answer(error="no signal is about to be delivered")
    if offset + len(data) > len(now):
        return Answer(error="siginfo_t has 128 bytes")
    target.judge.info = SigInfo.unpack(now[:offset] + data + now[offset + len(data) :])
    return Answer(changed=True)
