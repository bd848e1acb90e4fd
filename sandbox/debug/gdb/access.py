"""What the stub asks of the process that runs the machine: plain functions of the debugger there, plain data back."""

from __future__ import annotations

from sandbox.debug import poke
from sandbox.debug.commands import COMMANDS, find
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.gdb.processes import breaks_of, is_gdbs, own
from sandbox.debug.gdb.registers import REGISTERS, read_all, target_xml, write_all
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.points import ONLY
from sandbox.debug.target import Refused
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.runner.run import Session
from sandbox.x86.descriptors import FLAG_BIG

MOVES, HARMLESS = ("running", "going back"), ("help", "bookmark")
"""Groups of commands that let the guest run, and those in them that do not."""


def registers(debugger: Debugger) -> bytes:
    """All registers of the thread that is looked at."""
    return read_all(debugger.target)


def set_registers(debugger: Debugger, data: bytes) -> Answer:
    """Set them all; the answer's error says when that cannot be."""
    try:
        write_all(debugger.target, data)
    except Refused as error:
        return Answer(error=error.summary)
    return Answer(changed=True)


def register(debugger: Debugger, number: int) -> bytes | None:
    """One register, None when there is none of this number."""
    return REGISTERS[number].read(debugger.target) if number < len(REGISTERS) else None


def set_register(debugger: Debugger, number: int, data: bytes) -> Answer:
    """Set one; the answer's error says when that cannot be.  What it is anyway can be set of any.

    gdb gives all of them back behind a call of a guest's function ("Calling Program Functions" in its manual).
    """
    if number < len(REGISTERS) and data == REGISTERS[number].read(debugger.target):
        return Answer()
    write = REGISTERS[number].write if number < len(REGISTERS) else None
    if write is None or len(data) != REGISTERS[number].bits // 8:
        return Answer(error="no such register")
    try:
        write(debugger.target, data)
    except Refused as error:
        return Answer(error=error.summary)
    return Answer(changed=True)


def memory(debugger: Debugger, linear: int, size: int) -> bytes:
    """Bytes at a linear address, short where nothing is mapped; what is not there yet as the program would find it."""
    return poke.read(debugger.target, linear, size)


def set_memory(debugger: Debugger, linear: int, data: bytes) -> Answer:
    """Set bytes; the answer's error says where nothing is mapped."""
    try:
        poke.write(debugger, linear, data)
    except Refused as error:
        return Answer(error=error.summary)
    return Answer(changed=True)


def set_breakpoint(debugger: Debugger, address: int, on: bool, process: int = 0) -> None:
    """gdb's own breakpoint at a linear address, of one process or all: on or off; twice on is once.

    In the kernel, which all share, it is everybody's.
    """
    text = breaks_of(process)
    found = [each for each in debugger.points.at(address) if each.text == text]
    if on and not found:
        condition = own(process) if process and address < TASK_SIZE else ""
        debugger.points.add("break", text, address=address, condition=condition)
    for each in found if not on else ():
        debugger.remove(each)


def catch_calls(debugger: Debugger, names: list[int] | None, processes: list[int] | None = None) -> None:
    """Stop at system calls and their returns: of these numbers, all for an empty list, none for None.

    ``processes`` are those whose calls count, None for all.
    """
    for each in debugger.points:
        if each.what == "catch" and each.text.split()[0] in ("syscall", "sysret") and each.condition.startswith(ONLY):
            debugger.remove(each)
    if names is not None and debugger.target.kind != "rom":
        wanted = " || ".join(f"$number == {number}" for number in names) or "1"
        if processes is not None:
            wanted = f"({wanted}) && ({' || '.join(own(each) for each in processes) or '0'})"
        for word in ("syscall", "sysret"):
            debugger.catch(word, "", condition=f"{ONLY}({wanted})")


def monitor(debugger: Debugger, line: str) -> Answer:
    """``monitor COMMAND``: any command, but none that lets the guest run: gdb would not know where it stands then."""
    word = line.split()[0].partition("/")[0]
    if line.split() == ["delete"]:
        return delete_all(debugger)
    try:
        run = find(word)
    except Refused as error:
        return Answer(error=error.summary)
    name, found = next((name, each) for name, each in COMMANDS.items() if each.run is run)
    if found.group in MOVES and name not in HARMLESS:
        return Answer([f"{word}: use gdb's own command"])
    return debugger.execute(line)


def delete_all(debugger: Debugger) -> Answer:
    """``monitor delete``: all points but those that gdb itself has asked for, of which it would hear nothing."""
    for each in debugger.points:
        if not is_gdbs(each):
            debugger.remove(each)
    return Answer(["no points but gdb's own"])


def forget_all(debugger: Debugger) -> None:
    """A new gdb finds no points of one that has gone without a word."""
    for each in debugger.points:
        if each.text.startswith("(gdb"):
            debugger.remove(each)


def catch_signals(debugger: Debugger) -> None:
    """Stop before each signal's delivery."""
    if debugger.target.kind != "rom":
        debugger.catch("signal", "")


def description(debugger: Debugger) -> str:
    """The target description."""
    wide = debugger.target.context.segment("cs").flags & FLAG_BIG
    return target_xml(debugger.target.kind == "program", bool(wide) or debugger.target.kind != "rom")


def program_path(debugger: Debugger) -> str:
    """The program's path in the guest's tree, empty where there is none."""
    session = debugger.target.session if isinstance(debugger.target, KernelTarget) else None
    return session.path if isinstance(session, Session) else ""


def auxv(debugger: Debugger) -> bytes:
    """The auxiliary vector of the task that is looked at."""
    target = debugger.target
    mm = target.mm if isinstance(target, KernelTarget) else None
    return mm.auxv if mm is not None else b""
