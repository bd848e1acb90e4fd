"""What a command of the debugger comes to: plain data, which goes over a pipe."""

from __future__ import annotations

from typing import Any

from sandbox.debug.stops import Stop
from sandbox.records import dataclass, field


@dataclass(slots=True)
class Answer:
    """What a command comes to: lines for people, data for programs, the stop it led to; ``error`` if it was refused."""

    lines: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    stop: Stop | None = None
    error: str = ""
    leaves: bool = False
    """The debugger is to be left."""
    changed: bool = False
    """Something of the guest was set: its future is another one."""
    verbatim: bool = False
    """The lines are somebody else's text, or laid out already: they are not wrapped."""

    def __reduce__(self) -> tuple[type[Answer], tuple[Any, ...]]:
        """Smaller and quicker on its way through a pipe."""
        return Answer, (self.lines, self.data, self.stop, self.error, self.leaves, self.changed, self.verbatim)

    def plain(self) -> tuple[Any, ...]:
        """Nothing but tuples, lists, words and numbers, as far as the data is; ``Answer.of`` makes it one again."""
        stop = None if self.stop is None else self.stop.plain()
        return self.lines, self.data, stop, self.error, self.leaves, self.changed, self.verbatim

    @staticmethod
    def of(lines: list[str], data: dict[str, Any], stop: tuple[Any, ...] | None, *rest: Any) -> Answer:
        """What ``plain`` gave."""
        return Answer(lines, data, None if stop is None else Stop.of(*stop), *rest)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        told: dict[str, Any] = {"lines": self.lines, **self.data}
        if self.stop is not None:
            told["stop"] = self.stop.to_dict()
        if self.error:
            told["error"] = self.error
        return told


LONGEST_ERROR = 200


def one_line(text: str) -> str:
    """What was typed comes back in an error: without what would not print, and not longer than a line or two."""
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    half = LONGEST_ERROR // 2
    return shown if len(shown) <= LONGEST_ERROR else f"{shown[:half]}…{shown[-half:]}"
