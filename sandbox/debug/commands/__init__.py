"""The commands of the debugger, by name: running, points, looking, setting; each answers with plain data.

``COMMANDS`` has them all, in the order in which ``help`` shows them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps

from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.target import Refused
from sandbox.records import dataclass

Run = Callable[[Debugger, str], Answer]


@dataclass(frozen=True, slots=True)
class Command:
    """One command: how it is written, what it does in a line, and the function that does it."""

    usage: str
    about: str
    run: Run
    group: str


COMMANDS: dict[str, Command] = {}
ALIASES = {
    "rs": "reverse-step", "rsi": "reverse-step", "reverse-stepi": "reverse-step", "rn": "reverse-next",
    "rni": "reverse-next", "reverse-nexti": "reverse-next", "rc": "reverse-continue", "disas": "code", "u": "until",
    "s": "step", "si": "step", "stepi": "step", "n": "next", "ni": "next", "nexti": "next", "c": "continue",
    "b": "break", "q": "quit", "h": "help", "?": "help", "p": "print", "bt": "backtrace", "i": "info", "r": "regs",
    "disassemble": "code", "tb": "tbreak",
}  # fmt: skip


def command(usage: str, about: str, group: str) -> Callable[[Run], Run]:
    """Register a function as the command that its usage begins with."""

    def register(function: Run) -> Run:
        if usage.replace("-", "").isalpha():
            function = _alone(usage, function)
        COMMANDS[re.split(r"[ \[]", usage)[0]] = Command(usage, about, function, group)
        return function

    return register


def _alone(name: str, function: Run) -> Run:
    """A command that takes no words refuses those that come with it."""

    @wraps(function)
    def run(debugger: Debugger, text: str) -> Answer:
        if text:
            raise Refused(f"{name}: takes no {text!r}")
        return function(debugger, text)

    return run


def find(name: str) -> Run:
    """The command of a name, an alias, or a beginning that only one has.  Raises Refused."""
    name = ALIASES.get(name, name)
    if name in COMMANDS:
        return COMMANDS[name].run
    matches = [each for each in COMMANDS if each.startswith(name)] if name else []
    if len(matches) == 1:
        return COMMANDS[matches[0]].run
    if matches:
        raise Refused(f"{name!r} may be {', '.join(sorted(matches))}")
    raise Refused(f"no command {name!r}; try help")


def split_condition(text: str) -> tuple[str, str]:
    """``WHERE if CONDITION`` in two.  Raises Refused for an ``if`` with nothing behind it."""
    head, word, condition = f" {text} ".partition(" if ")
    if word and not condition.strip():
        raise Refused("if: a condition is missing")
    return head.strip(), condition.strip()


from sandbox.debug.commands import (  # noqa: E402
    backtrace,  # noqa: F401
    faults,  # noqa: F401
    frames,  # noqa: F401
    info,  # noqa: F401
    look,  # noqa: F401
    past,  # noqa: F401
    points,  # noqa: F401
    running,  # noqa: F401
    source,  # noqa: F401
    system,  # noqa: F401
    tables,  # noqa: F401
    watch,  # noqa: F401
)
