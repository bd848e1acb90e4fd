"""What a verdict that failed has to tell: the page fault that matters, or the last instructions, with the page walk."""

from __future__ import annotations

import re

from sandbox.api.guest import Guest, start
from sandbox.api.options import Options
from sandbox.api.runs import explain
from sandbox.debug.view import code_lines
from sandbox.runner.target import Target
from sandbox.suite.check import Verdict
from sandbox.x86.errors import SandboxError

_NEAREST = re.compile(r"nearest: fault (\d+) ")
SHOWN = 4
"""Instructions of a disassembly."""


def story(image: Target, verdict: Verdict) -> list[str]:
    """Lines below a verdict's failures: explanation, disassembly and walk, seen by a run of its own.

    Empty where there is nothing to show: the image was refused, or it passed on a broken kernel.
    """
    if verdict.result is None or verdict.refused or verdict.switch:
        return []
    options = Options() if image.kind == "rom" else Options(paging=verdict.paging)
    number = _fault(verdict)
    try:
        if number:
            explained = explain(image, number, **options)
            return [*explained.lines(), "", *_around(image, options, number)]
        return _last(image, options)
    except SandboxError as error:
        return [f"no more can be shown: {error.summary}"]


def _fault(verdict: Verdict) -> int:
    """The fault that the failures name, or the last one; 0 when there was none."""
    named = [int(found[1]) for text in verdict.failures if (found := _NEAREST.search(text))]
    assert verdict.result is not None
    return named[0] if named else verdict.result.summary.page_faults


def _around(image: Target, options: Options, number: int) -> list[str]:
    """The code at a fault, from its instruction on."""
    with start(image, **options) as guest:
        if guest.command(f"run to fault {number}").error or guest.stop.ended:
            return []
        return ["the code there", *(f"    {line}" for line in code_lines(guest._target, guest.stop.moment.eip, SHOWN))]


def _last(image: Target, options: Options) -> list[str]:
    """Where a guest without a fault leaves: the code and the walk of its address."""
    with start(image, **options) as guest:
        if image.kind != "rom":
            guest.command("catch syscall exit")
            guest.command("catch syscall exit_group")
            guest.run()
        else:
            guest.finish()
        return _place(guest)


def _place(guest: Guest) -> list[str]:
    at = guest.stop.moment.eip
    lines = [f"no page fault; it leaves at {at:08x}", *(f"    {line}" for line in code_lines(guest._target, at, SHOWN))]
    return [*lines, "", "the walk of this address", *(f"    {line}" for line in guest.walk(at, "x").lines())]
