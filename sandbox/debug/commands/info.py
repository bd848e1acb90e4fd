"""``info TOPIC``: the topics by name; each module of commands registers its own."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.debug.commands import Run, command
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.target import Refused
from sandbox.records import dataclass

TOPICS: dict[str, Topic] = {}
_SHORT = {"b": "points", "breakpoints": "points", "r": "registers"}


@dataclass(frozen=True, slots=True)
class Topic:
    """What it is about in a few words, the function that tells, and whether it takes words of its own."""

    about: str
    run: Run
    takes: bool


def topic(name: str, about: str, takes: bool = False) -> Callable[[Run], Run]:
    """Register a function as ``info NAME``."""

    def register(function: Run) -> Run:
        TOPICS[name] = Topic(about, function, takes)
        return function

    return register


@command("info TOPIC", "what there is; info topics lists them", "looking")
def info(debugger: Debugger, text: str) -> Answer:
    name, _, rest = text.partition(" ")
    found = TOPICS.get(_SHORT.get(name, name))
    if found is None:
        raise Refused(f"info {name}: {', '.join(sorted(TOPICS))}".replace("info :", "info:"))
    if rest.strip() and not found.takes:
        raise Refused(f"info {name}: takes no {rest.strip()!r}")
    return found.run(debugger, rest.strip())


@topic("topics", "this list")
def topics(debugger: Debugger, text: str) -> Answer:
    width = max(len(name) for name in TOPICS)
    lines = [f"  {name:{width}}  {TOPICS[name].about}" for name in sorted(TOPICS)]
    return Answer(lines, {"topics": {name: TOPICS[name].about for name in sorted(TOPICS)}})


@topic("points", "breakpoints, watchpoints, catchpoints")
def points(debugger: Debugger, text: str) -> Answer:
    found = list(debugger.points)
    return Answer([each.line() for each in found] or ["no points"], {"points": [each.to_dict() for each in found]})
