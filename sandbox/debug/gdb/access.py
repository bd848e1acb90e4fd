"""What the stub asks of the process that runs the machine: plain functions of the debugger there, plain data back."""

from __future__ import annotations

from typing import Any

from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.gdb.registers import REGISTERS, read_all, target_xml, write_all
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.run_control import Steps
from sandbox.debug.stops import Moment, Stop, StopKind
from sandbox.debug.target import Refused
from sandbox.debug.travel import Journey
from sandbox.kernel.abi.errno import KernelError
from sandbox.records import dataclass
from sandbox.runner.run import Session

CPU_THREADS = 1 << 20
"""Under a kernel, where threads are tasks by their pids, ids from here on are CPUs that run none."""
FILE_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Halt:
    """Where the guest stands, as gdb wants to know it."""

    stop: Stop
    thread: int
    status: int = 0
    signal: int = 0
    replay_end: str = ""


def halted(debugger: Debugger, stop: Stop | None = None, replay_end: str = "") -> Halt:
    """The present stop."""
    stop = debugger.stop if stop is None else stop
    assert stop is not None
    result = debugger.target.result
    status, signal = (0, 0) if result is None else (result.status, result.signal)
    return Halt(stop, _thread_of(debugger, stop), status, signal, replay_end)


def _thread_of(debugger: Debugger, stop: Stop) -> int:
    return stop.pid or _first_cpu(debugger) + stop.moment.cpu


def _first_cpu(debugger: Debugger) -> int:
    return CPU_THREADS if isinstance(debugger.target, KernelTarget) else 1


def threads(debugger: Debugger) -> list[tuple[int, str]]:
    """(id, description): tasks of programs by pid, and CPUs that run none."""
    target = debugger.target
    found: list[tuple[int, str]] = []
    if isinstance(target, KernelTarget):
        for task in target.kernel.tasks.values():
            if task.runs:
                found.append((task.pid, f"{task.comm}, {task.state.value}, CPU {task.cpu.index}"))
        busy = {
            task.cpu.index for task in target.kernel.tasks.values() if target.kernel.sched.task_of(task.cpu) is task
        }
    else:
        busy = set()
    idle = [cpu.index for cpu in target.machine.cpus if cpu.index not in busy]
    return found + [(_first_cpu(debugger) + index, f"CPU {index}") for index in idle]


def select(debugger: Debugger, thread: int) -> bool:
    """Look at a thread; False when there is none of this number."""
    target, cpu = debugger.target, thread - _first_cpu(debugger)
    try:
        if 0 <= cpu < len(target.machine.cpus):
            target.view_cpu(cpu)
        elif isinstance(target, KernelTarget):
            target.view_task(thread)
        else:
            return False
    except Refused:
        return False
    return True


def registers(debugger: Debugger) -> bytes:
    """All registers of the thread that is looked at."""
    return read_all(debugger.target.context, debugger.target.kind == "program")


def set_registers(debugger: Debugger, data: bytes) -> Answer:
    """Set them all."""
    write_all(debugger.target.context, data)
    return Answer(changed=True)


def register(debugger: Debugger, number: int) -> bytes | None:
    """One register, None when there is none of this number."""
    return REGISTERS[number].read(debugger.target.context) if number < len(REGISTERS) else None


def set_register(debugger: Debugger, number: int, data: bytes) -> Answer:
    """Set one; the answer's error says when that cannot be."""
    write = REGISTERS[number].write if number < len(REGISTERS) else None
    if write is None or len(data) != REGISTERS[number].bits // 8:
        return Answer(error="no such register")
    write(debugger.target.context, data)
    return Answer(changed=True)


def memory(debugger: Debugger, linear: int, size: int) -> bytes:
    """Bytes at a linear address, short where nothing is mapped."""
    return debugger.target.read(linear, size)


def set_memory(debugger: Debugger, linear: int, data: bytes) -> Answer:
    """Set bytes; the answer's error says where nothing is mapped."""
    try:
        debugger.target.write(linear, data)
    except Refused as error:
        return Answer(error=error.summary)
    return Answer(changed=True)


def set_breakpoint(debugger: Debugger, address: int, on: bool) -> None:
    """gdb's own breakpoint at a linear address: on or off; twice on is once."""
    found = [each for each in debugger.points.at(address) if each.text == GDBS]
    if on and not found:
        debugger.points.add("break", GDBS, address=address)
    for each in found if not on else ():
        debugger.remove(each)


GDBS = "(gdb)"


def catch_calls(debugger: Debugger, names: list[int] | None) -> None:
    """Stop at system calls and their returns: of these numbers, all for an empty list, none for None."""
    for each in debugger.points:
        if each.what == "catch" and each.text.split()[0] in ("syscall", "sysret") and each.condition.startswith(ONLY):
            debugger.remove(each)
    if names is not None and debugger.target.kind != "rom":
        wanted = " || ".join(f"$number == {number}" for number in names) or "1"
        for word in ("syscall", "sysret"):
            debugger.catch(word, "", condition=f"{ONLY}{wanted}")


ONLY = "1 && "


def catch_signals(debugger: Debugger) -> None:
    """Stop before each signal's delivery."""
    if debugger.target.kind != "rom":
        debugger.catch("signal", "")


def go_on(debugger: Debugger, step_of: int | None) -> Halt:
    """Run on; ``step_of`` is the thread that shall run one instruction, None for all to the next stop."""
    if step_of is None:
        return halted(debugger, debugger.go())
    select(debugger, step_of)
    target = debugger.target
    flow: Any = target.flow(target.cpu)
    if isinstance(target, KernelTarget) and target.task is not None and target.context is target.task.context:
        flow = "task", target.task.pid
    return halted(debugger, debugger.go(Steps(1, flow)))


def go_back(debugger: Debugger, step: bool) -> Any:
    """Back by an instruction, or to the last stop before this one; the copy of a checkpoint answers."""
    traveller, stop = debugger.traveller, debugger.stop
    if traveller is None or stop is None:
        return halted(debugger, replay_end="begin")
    target = debugger.target
    flow: Any = target.flow(target.cpu)
    if isinstance(target, KernelTarget) and target.task is not None and target.context is target.task.context:
        flow = "task", target.task.pid
    journey = Journey(stop.moment, debugger.snapshot(), "step" if step else "hit", flow=flow, face=halted)
    try:
        traveller.leave(journey)
    except Refused:
        return halted(debugger, replay_end="begin")


def restart(debugger: Debugger) -> Any:
    """To the first instruction."""
    assert debugger.traveller is not None
    debugger.traveller.leave(Journey(Moment(0, 0, 0), debugger.snapshot(), face=halted))


def description(debugger: Debugger) -> str:
    """The target description."""
    return target_xml(debugger.target.kind == "program")


def program_path(debugger: Debugger) -> str:
    """The program's path in the guest's tree, empty where there is none."""
    session = debugger.target.session if isinstance(debugger.target, KernelTarget) else None
    return session.path if isinstance(session, Session) else ""


def auxv(debugger: Debugger) -> bytes:
    """The auxiliary vector of the task that is looked at."""
    target = debugger.target
    mm = target.mm if isinstance(target, KernelTarget) else None
    return mm.auxv if mm is not None else b""


def file_bytes(debugger: Debugger, path: str) -> bytes | None:
    """A file of the guest's tree, None where there is none."""
    target = debugger.target
    if not isinstance(target, KernelTarget):
        return None
    try:
        return target.kernel.files.program_bytes(path)
    except KernelError:
        return None


def module_symbols(debugger: Debugger) -> list[tuple[str, int]]:
    """(module, linear address of its text) of what is loaded: for ``add-symbol-file``."""
    target = debugger.target
    if not isinstance(target, KernelTarget):
        return []
    return [(module.name, module.base) for module in target.system.modules.loaded]


def is_at_end(halt: Halt) -> bool:
    """The guest is no more."""
    return halt.stop.kind is StopKind.END
