"""Commands that let the guest run: by instructions, over calls, to places, to faults."""

from __future__ import annotations

import textwrap

from sandbox.debug import legs
from sandbox.debug.catches import events_of
from sandbox.debug.commands import ALIASES, COMMANDS, command
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.goals import Steps
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.stops import Stop
from sandbox.debug.target import WRAP, Refused
from sandbox.debug.view import stop_lines

MOST_STEPS = 1_000_000_000
HELP_WIDTH, HELP_COLUMN = 80, 24
GROUPS = ("running", "points", "going back", "looking")
_RUN = "running"


def told(debugger: Debugger, stop: Stop) -> Answer:
    """A stop as an answer."""
    answered = [f"answered: {debugger.answered}"] if debugger.answered else []
    return Answer(answered + stop_lines(debugger.target, stop), stop=stop, verbatim=True)


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
    return told(debugger, legs.instructions(debugger, _count(debugger, text)))


@command("finish", "run to the return of this function; from a fault's handling, to the instruction again", _RUN)
def finish(debugger: Debugger, text: str) -> Answer:
    target = debugger.target
    if isinstance(target, KernelTarget) and target.task is not None and _in_handling(debugger, target):
        return told(debugger, debugger.go(Steps(0, ("task", target.task.pid))))
    return told(debugger, legs.go_out(debugger))


def _in_handling(debugger: Debugger, target: KernelTarget) -> bool:
    """The kernel is at work for a task, with its own routines or between them; what a module calls is a function."""
    event = debugger.stop is not None and debugger.stop.details.get("event", "")
    kstack = target.kernel.cpus[target.cpu.index].kstack
    called = kstack.depth == kstack.module_calls
    returned = target.name_of(target.context.linear_eip & WRAP).startswith("call_module")
    return bool(event) or (target.context.cpl == 0 and (returned or not called))


@command("until WHERE", "run to a place, in this flow of control", _RUN)
def until(debugger: Debugger, text: str) -> Answer:
    if not text:
        raise Refused("until: a place is missing")
    return told(debugger, legs.go_to(debugger, debugger.address(text)))


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
    number = debugger.on_fault_number = _to_come(debugger, words[2])
    try:
        answer = told(debugger, debugger.go())
    finally:
        debugger.on_fault_number = None
    if answer.stop is not None and answer.stop.ended:
        answer.lines.append(f"there is no fault {number}: the run had {debugger.target.fault_count}")
    return answer


def _to_come(debugger: Debugger, text: str) -> int:
    """The number of a fault that has not been yet.  Raises Refused."""
    number, count = debugger.number(text, 1), debugger.target.fault_count
    if number <= count:
        raise Refused(f"fault {number}: there were {count} so far; goto fault {number} leads back")
    return number


@command("quit", "leave", _RUN)
def quit_(debugger: Debugger, text: str) -> Answer:
    return Answer(leaves=True)


@command("help [COMMAND]", "this list", _RUN)
def help_(debugger: Debugger, text: str) -> Answer:
    text = ALIASES.get(text, text)
    if text and text not in COMMANDS:
        raise Refused(f"no command {text!r}")
    shown = [COMMANDS[text]] if text else sorted(COMMANDS.values(), key=lambda each: GROUPS.index(each.group))
    lines, group = [], ""
    for each in shown:
        if each.group != group and not text:
            lines.append(f"{each.group}:")
        group = each.group
        lines += _help_lines(each.usage, each.about)
    if text in ("catch", "tcatch"):
        lines += [line for each in events_of(debugger.target.kind).items() for line in _help_lines(*each)]
    return Answer(lines, {"commands": {name: each.about for name, each in COMMANDS.items()}})


def _help_lines(usage: str, about: str) -> list[str]:
    """As many lines of 80 columns as it takes."""
    rows = textwrap.wrap(about, HELP_WIDTH - HELP_COLUMN - 4)
    heads = textwrap.wrap(usage, HELP_WIDTH - 4, break_on_hyphens=False)
    if len(heads) > 1 or len(usage) > HELP_COLUMN:
        heads.append("")
    left = heads + [""] * (len(rows) - 1)
    right = [""] * (len(heads) - 1) + rows
    return [f"  {head:{HELP_COLUMN}}  {tail}".rstrip() for head, tail in zip(left, right, strict=True)]
