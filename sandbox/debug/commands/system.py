"""What a CPU's system registers say and name: ``info registers|cr|segments|gdt|ldt|idt|tss|cpus``."""

from __future__ import annotations

from sandbox.debug import descriptors, view
from sandbox.debug.commands import command
from sandbox.debug.commands.info import topic
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.target import WRAP


@command("regs", "registers, flags, segments, control registers", "looking")
def regs(debugger: Debugger, text: str) -> Answer:
    return registers(debugger, text)


@topic("registers", "general registers, decoded flags, segments, control registers")
def registers(debugger: Debugger, text: str) -> Answer:
    context = debugger.target.context
    names = ("eip", "eflags", "cpl", "cs", "ss", "ds", "es", "fs", "gs", "cr0", "cr2", "cr3", "cr4")
    data = {name: value & WRAP for name, value in context.general().items()}
    return Answer(view.registers(context), {"registers": {**data, **{each: debugger.register(each) for each in names}}})


@topic("cr", "control registers and EFER, bit by bit")
def control(debugger: Debugger, text: str) -> Answer:
    return Answer(*descriptors.control(debugger.target.context))


@topic("segments", "segment registers with base, limit and type; GDTR and IDTR")
def segments(debugger: Debugger, text: str) -> Answer:
    return Answer(*descriptors.segments(debugger.target.context))


@topic("gdt", "the global descriptor table of this CPU")
def gdt(debugger: Debugger, text: str) -> Answer:
    return Answer(*descriptors.table(debugger.target, "gdt"))


@topic("ldt", "its local descriptor table")
def ldt(debugger: Debugger, text: str) -> Answer:
    return Answer(*descriptors.table(debugger.target, "ldt"))


@topic("idt", "its interrupt descriptor table")
def idt(debugger: Debugger, text: str) -> Answer:
    return Answer(*descriptors.idt(debugger.target))


@topic("tss", "its task-state segment")
def tss(debugger: Debugger, text: str) -> Answer:
    return Answer(*descriptors.task_state(debugger.target))


@topic("cpus", "all CPUs")
def cpus(debugger: Debugger, text: str) -> Answer:
    machine = debugger.target.machine
    lines = [
        f"CPU {each.index}  eip {each.context.linear_eip & WRAP:08x}  cpl {each.context.cpl}" for each in machine.cpus
    ]
    return Answer(
        lines, {"cpus": [{"cpu": each.index, "eip": each.context.linear_eip & WRAP} for each in machine.cpus]}
    )
