"""What is looked at of a target: the flow of control that a step belongs to, and what names mean."""

from __future__ import annotations

import re
from collections.abc import Hashable

from sandbox.debug.expression import Scope, address, evaluate
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.points import AtStop
from sandbox.debug.stops import Stop
from sandbox.debug.target import WRAP, Refused, Target
from sandbox.x86.numbers import printed

_FILE = re.compile(r"(?=.*[A-Za-z])[^\s:<>$]+", re.ASCII)
SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
CONTROL = ("cr0", "cr2", "cr3", "cr4")


class Viewed(Scope):
    """A target as a person sees it at a stop."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.stop: Stop | None = None

    # -- flow of control -----------------------------------------------------------------------------------------

    @property
    def flow(self) -> Hashable:
        """What a step belongs to: the task or routine that is looked at."""
        target = self.target
        if isinstance(target, KernelTarget) and target.task is not None and target.context is target.task.context:
            return "task", target.task.pid
        return target.flow(target.cpu)

    @property
    def flow_back(self) -> Hashable:
        """What a step back belongs to; None in a kernel routine, before whose first instruction comes who called it.

        And at an end to which the kernel came while no task ran.
        """
        target, stop = self.target, self.stop
        if not isinstance(target, KernelTarget):
            return self.flow
        in_kernel = target.context.cpl == 0 and "[" not in target.name_of(target.context.linear_eip & WRAP)
        nobody = stop is not None and stop.ended and target.task is None
        return None if in_kernel or nobody else self.flow

    # -- names (expression.Scope) --------------------------------------------------------------------------------

    def register(self, name: str) -> int | None:
        context = self.target.context
        general = context.general()
        if name in general:
            return general[name] & WRAP
        if name in ("eip", "eflags", "cpl", *CONTROL):
            return int(getattr(context, name)) & WRAP
        if name in SEGMENTS:
            return context.segment(name).selector
        if name[:2] == "dr" and name[2:] in ("0", "1", "2", "3", "6", "7"):
            return context.debug_register(int(name[2:]))
        if name == "tgid":
            return self.target.process_on(self.target.cpu)
        pid = self.target.pid_on(self.target.cpu)
        return {"pid": pid, "task": pid, "cpu": self.target.viewed_cpu}.get(name)

    @property
    def here(self) -> Scope:
        """The names that are known at a stop: what a condition may ask for there, too."""
        return AtStop(self, {} if self.stop is None else self.stop.details)

    def symbol(self, name: str) -> int | None:
        return self.target.address_of(name)

    def memory(self, linear: int, size: int) -> bytes:
        return self.target.read(linear, size)

    def address(self, text: str) -> int:
        """A linear address: an expression, what is printed around one, or FILE:LINE.  Raises Refused."""
        file, _, line = text.strip().rpartition(":")
        if line.isascii() and line.isdecimal() and len(line) < 10 and _FILE.fullmatch(file):
            return self.target.line_address(file, int(line))
        return address(printed(text) if text.strip() else text, self.here)

    def number(self, text: str, least: int = 0, most: int = 1 << 32) -> int:
        """A number in a range.  Raises Refused."""
        found = evaluate(text, self.here)
        if not least <= found <= most:
            wanted = f"a number from {least} to {most} is wanted" if least < most else f"only {least} is there"
            raise Refused(f"{text}: {wanted}")
        return found
