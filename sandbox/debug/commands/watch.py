"""Commands that watch memory: linear and physical ranges, entries of page tables, CR3."""

from __future__ import annotations

import re
from collections.abc import Callable

from sandbox.debug.commands import command, split_condition
from sandbox.debug.commands.points import checked, told
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.target import WRAP, Refused
from sandbox.debug.touches import FIELDS
from sandbox.debug.watching import ENTRIES, LINEAR, MOST_BYTES, PHYSICAL, Wanted
from sandbox.engine.watch import CR3, READ, WRITE
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.machine.memory import PHYSICAL_LIMIT

_POINTS = "points"
_SIZE = re.compile(r"\d{1,7}|0x[0-9a-fA-F]+", re.ASCII)
_OPEN = tuple("+-*/%&|^<>=(!~")
KINDS = {"watch": WRITE, "rwatch": READ, "awatch": READ | WRITE}
"""Which accesses the commands stop at."""


def _watch(debugger: Debugger, word: str, text: str, temporary: bool = False) -> Answer:
    what, condition = split_condition(text)
    wanted = _wanted(debugger, word, what)
    debugger.check_watch(wanted)
    made = debugger.points.add(
        word, what, address=wanted.first if wanted.kind == LINEAR else None, argument=wanted, temporary=temporary,
        condition=checked(debugger, condition, FIELDS),
    )  # fmt: skip
    return told(made)


def _wanted(debugger: Debugger, word: str, text: str) -> Wanted:
    """What a command's words ask for.  Raises Refused."""
    kind, _, rest = text.partition(" ")
    flags, cpu = KINDS[word], debugger.target.viewed_cpu
    if kind in ("pte", "cr3") and word != "watch":
        raise Refused(f"{word} {kind}: what a processor reads of its tables cannot be seen; watch {kind} sees stores")
    if kind == "cr3":
        if rest:
            raise Refused(f"watch cr3: takes no {rest!r}")
        return Wanted(CR3, cpu=cpu)
    if kind == "pte":
        if not rest:
            raise Refused("watch pte: an address is missing")
        return Wanted(ENTRIES, debugger.address(rest), 1, WRITE, _pid(debugger), cpu)
    if kind == "physical":
        first, size = _range(debugger, f"{word} physical", rest, PHYSICAL_LIMIT, _physical)
        return Wanted(PHYSICAL, first, size, flags, cpu=cpu)
    return linear(debugger, flags, *_range(debugger, word, text, WRAP + 1, Debugger.address))


def linear(debugger: Debugger, flags: int, first: int, size: int) -> Wanted:
    """Linear addresses, followed by the tables of the task that is looked at, in the kernel's half by the kernel's."""
    pid = 0 if first >= PAGE_OFFSET else _pid(debugger)
    return Wanted(LINEAR, first, size, flags, pid, debugger.target.viewed_cpu)


def _physical(debugger: Debugger, text: str) -> int:
    return debugger.number(text, 0, PHYSICAL_LIMIT - 1)


def _range(debugger: Debugger, word: str, text: str, end: int, read: Callable[[Debugger, str], int]) -> tuple[int, int]:
    """``WHERE [SIZE]``, four bytes without one.  Raises Refused."""
    where, _, last = text.rpartition(" ")
    size = 4
    if where and _SIZE.fullmatch(last) and not where.rstrip().endswith(_OPEN):
        size, text = debugger.number(last, 1, MOST_BYTES), where
    if not text.strip():
        raise Refused(f"{word}: a place is missing")
    first = read(debugger, text.strip())
    if first + size > end:
        raise Refused(f"{word}: {first:#x} and {size} bytes: that is more than there is")
    return first, size


def _pid(debugger: Debugger) -> int:
    """The task by whose tables an address is followed."""
    target = debugger.target
    return target.task.pid if isinstance(target, KernelTarget) and target.task is not None else 0


@command("watch WHERE|physical ADDRESS|pte ADDRESS|cr3 [BYTES] [if CONDITION]", "stop behind a store", _POINTS)
def watch(debugger: Debugger, text: str) -> Answer:
    return _watch(debugger, "watch", text)


@command("rwatch WHERE|physical ADDRESS [BYTES] [if CONDITION]", "stop behind a load", _POINTS)
def rwatch(debugger: Debugger, text: str) -> Answer:
    return _watch(debugger, "rwatch", text)


@command("awatch WHERE|physical ADDRESS [BYTES] [if CONDITION]", "stop behind loads and stores", _POINTS)
def awatch(debugger: Debugger, text: str) -> Answer:
    return _watch(debugger, "awatch", text)


@command("twatch WHERE|physical ADDRESS|pte ADDRESS|cr3 [BYTES] [if CONDITION]", "watch, once", _POINTS)
def twatch(debugger: Debugger, text: str) -> Answer:
    return _watch(debugger, "watch", text, temporary=True)
