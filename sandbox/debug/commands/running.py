"""Commands that let the guest run: by instructions, over calls, to places, to faults."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Hashable

from sandbox.debug.commands import COMMANDS, Command, command
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.run_control import Steps
from sandbox.debug.stops import Stop, StopKind
from sandbox.debug.target import WRAP, Refused
from sandbox.debug.view import stop_lines
from sandbox.engine.cpu import Cpu

MOST_STEPS = 1_000_000_000
STEPS_OUT = 5_000_000
"""Instructions after which ``finish`` gives up looking for the return."""
HELP_WIDTH, HELP_COLUMN = 80, 24
GROUPS = ("running", "points", "going back", "looking")
_RUN = "running"


def told(debugger: Debugger, stop: Stop) -> Answer:
    """A stop as an answer."""
    answered = [f"answered: {debugger.answered}"] if debugger.answered else []
    return Answer(answered + stop_lines(debugger.target, stop), stop=stop)


def _count(debugger: Debugger, text: str) -> int:
    return debugger.number(text, 1, MOST_STEPS) if text else 1


@command("step [N]", "run N instructions of this flow of control (1)", _RUN)
def step(debugger: Debugger, text: str) -> Answer:
    count = _count(debugger, text)
    return told(debugger, debugger.go(Steps(count, debugger.flow)))


@command("into [N]", "run N instructions of whatever comes on this CPU, kernel routines too", _RUN)
def into(debugger: Debugger, text: str) -> Answer:
    return told(debugger, debugger.go(Steps(_count(debugger, text), None, debugger.target.viewed_cpu)))


@command("next [N]|line [N]", "the same as step, or as line, but over calls", _RUN)
def next_(debugger: Debugger, text: str) -> Answer:
    if text.split()[:1] == ["line"]:
        from sandbox.debug.commands.source import by_lines

        return by_lines(debugger, text[4:].strip(), over=True)
    stop = debugger.stop
    for _ in range(_count(debugger, text)):
        stop = next_instruction(debugger)
        if stop.kind is not StopKind.STEP:
            break
    assert stop is not None
    return told(debugger, stop)


def next_instruction(debugger: Debugger) -> Stop:
    """One instruction, or a whole call or REP."""
    context = debugger.target.context
    code = debugger.target.code(context.linear_eip & WRAP, 1)
    if not code or not code[0].text.startswith(("call", "rep")):
        return debugger.go(Steps(1, debugger.flow))
    return _go_to(debugger, code[0].address + code[0].size & WRAP, debugger.flow, context.esp)


def _go_to(debugger: Debugger, place: int, flow: Hashable, esp: int) -> Stop:
    """To a place in this flow, with a stack that is not deeper than ``esp``; a stop there is a step."""
    debugger.breaks[place] = _here(debugger, flow, esp)
    stop = debugger.go()
    if stop.kind is StopKind.BREAKPOINT and not stop.points:
        stop = debugger.stop = Stop(StopKind.STEP, stop.moment, stop.pid, "")
    return stop


def _here(debugger: Debugger, flow: Hashable, esp: int) -> Callable[[Cpu], bool]:
    def here(cpu: Cpu) -> bool:
        return debugger.target.flow(cpu) == flow and cpu.context.esp & WRAP >= esp & WRAP

    return here


@command("finish", "run to the return of this function; from a fault's handling, to the instruction again", _RUN)
def finish(debugger: Debugger, text: str) -> Answer:
    target = debugger.target
    if isinstance(target, KernelTarget) and target.task is not None and _in_handling(debugger, target):
        return told(debugger, debugger.go(Steps(0, ("task", target.task.pid))))
    stop = go_out(debugger)
    return told(debugger, stop)


def _in_handling(debugger: Debugger, target: KernelTarget) -> bool:
    """The kernel is at work for a task, with its own routines or between them; what a module calls is a function."""
    event = debugger.stop is not None and debugger.stop.details.get("event", "")
    kstack = target.kernel.cpus[target.cpu.index].kstack
    called = kstack.depth == kstack.module_calls
    returned = target.name_of(target.context.linear_eip & WRAP).startswith("call_module")
    return bool(event) or (target.context.cpl == 0 and (returned or not called))


def go_out(debugger: Debugger) -> Stop:
    """Instruction by instruction over calls, to the first return from here."""
    flow, target = debugger.flow, debugger.target
    for _ in range(STEPS_OUT):
        code = target.code(target.context.linear_eip & WRAP, 1)
        returns = bool(code) and code[0].text.split()[0] in ("ret", "retf", "iretd", "iret")
        stop = debugger.go(Steps(1, flow)) if returns else next_instruction(debugger)
        if returns or stop.kind is not StopKind.STEP:
            return stop
    raise Refused(f"no return in {STEPS_OUT} instructions")


@command("until WHERE", "run to a place, in this flow of control", _RUN)
def until(debugger: Debugger, text: str) -> Answer:
    if not text:
        raise Refused("until: a place is missing")
    return told(debugger, _go_to(debugger, debugger.address(text), debugger.flow, 0))


@command("continue [N]", "run to the next stop, or to the N-th", _RUN)
def continue_(debugger: Debugger, text: str) -> Answer:
    for _ in range(_count(debugger, text)):
        stop = debugger.go()
        if stop.ended:
            break
    return told(debugger, stop)


@command("run to fault N", "run to page fault N, before it is answered", _RUN)
def run(debugger: Debugger, text: str) -> Answer:
    words = text.split(None, 2)
    if words[:2] != ["to", "fault"] or len(words) < 3:
        raise Refused("run: to fault N")
    debugger.on_fault_number = debugger.number(words[2], 1)
    try:
        return told(debugger, debugger.go())
    finally:
        debugger.on_fault_number = None


@command("quit", "leave", _RUN)
def quit_(debugger: Debugger, text: str) -> Answer:
    return Answer(leaves=True)


@command("help [COMMAND]", "this list", _RUN)
def help_(debugger: Debugger, text: str) -> Answer:
    if text and text not in COMMANDS:
        raise Refused(f"no command {text!r}")
    shown = [COMMANDS[text]] if text else sorted(COMMANDS.values(), key=lambda each: GROUPS.index(each.group))
    lines, group = [], ""
    for each in shown:
        if each.group != group and not text:
            lines.append(f"{each.group}:")
        group = each.group
        lines += _help_lines(each)
    return Answer(lines, {"commands": {name: each.about for name, each in COMMANDS.items()}})


def _help_lines(each: Command) -> list[str]:
    """As many lines of 80 columns as it takes."""
    about = textwrap.wrap(each.about, HELP_WIDTH - HELP_COLUMN - 4)
    usage = [each.usage] if len(each.usage) <= HELP_COLUMN else [each.usage, ""]
    left = usage + [""] * (len(about) - 1)
    right = [""] * (len(usage) - 1) + about
    return [f"  {head:{HELP_COLUMN}}  {tail}".rstrip() for head, tail in zip(left, right, strict=True)]
