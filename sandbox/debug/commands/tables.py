"""Page tables and TLBs: ``walk``, ``dump``, ``tlb``."""

from __future__ import annotations

import re
from functools import partial
from itertools import islice

from sandbox.debug import table_dump, tlb_view
from sandbox.debug.commands import command
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.expression import evaluate
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.target import WRAP, Refused
from sandbox.x86.walk import Access

_LOOK = "looking"
_ACCESSES = {"r": Access(), "w": Access(write=True), "x": Access(fetch=True)}
_THAT = "$access"
"""The access of which the present stop tells."""
_CLAUSE = re.compile(r"(?:^|\s+)(as|cr3|mm)(?=\s|$)", re.ASCII)
MOST_ROWS = 10_000
NOT_WATCHED = "nobody watches the TLBs of this run: start it with --sanitize tlb"


def clauses(text: str, known: tuple[str, ...], what: str) -> tuple[str, dict[str, str]]:
    """``WHERE as user cr3 0x1000`` as WHERE and what follows each word.  Raises Refused."""
    pieces = _CLAUSE.split(text)
    found: dict[str, str] = {}
    for word, value in zip(pieces[1::2], pieces[2::2], strict=True):
        if word not in known or word in found:
            raise Refused(f"{what}: {word!r} {'comes twice' if word in found else 'makes no sense here'}")
        if not value.strip():
            raise Refused(f"{what}: something is missing behind {word!r}")
        found[word] = value.strip()
    if "cr3" in found and "mm" in found:
        raise Refused(f"{what}: cr3 or mm, not both")
    return pieces[0].strip(), found


def root(debugger: Debugger, found: dict[str, str], what: str) -> int | None:
    """The CR3 that was asked for, by value or by a task; None for the one that is looked at.  Raises Refused."""
    if "cr3" in found:
        return debugger.number(found["cr3"], 0, WRAP)
    if "mm" not in found:
        return None
    target = debugger.target
    if not isinstance(target, KernelTarget):
        target.refuse(what, "there is no kernel under it, so no task has an mm: give cr3 VALUE")
    pid = debugger.number(found["mm"])
    task = target.kernel.tasks.get(pid)
    if task is None:
        raise Refused(f"no task {pid}")
    tables = target.kernel.tables
    return task.mm.cr3 if task.mm is not None else tables.cr3(tables.kernel_pgd)


@command("walk WHERE [r|w|x] [as user|supervisor] [cr3 VALUE|mm PID]", "the page walk of a read, write or fetch", _LOOK)
def walk(debugger: Debugger, text: str) -> Answer:
    where, rest = clauses(text, ("as", "cr3", "mm"), "walk")
    access = _access(debugger, where, rest.get("as", ""))
    found = debugger.target.walk(debugger.address(_place(where)), access, root(debugger, rest, "walk"))
    return Answer(found.lines(), {"walk": found.to_dict()})


def _place(where: str) -> str:
    head, _, kind = where.rpartition(" ")
    return head if head and kind in (*_ACCESSES, _THAT) else where


def _access(debugger: Debugger, where: str, who: str) -> Access:
    if who not in ("", "user", "supervisor"):
        raise Refused(f"walk as {who}: user or supervisor")
    head, _, kind = where.rpartition(" ")
    if head and kind == _THAT:
        kind = chr(evaluate(kind, debugger.here) & 0x7F)
    if head and len(kind) == 1 and kind.isalpha() and kind not in _ACCESSES:
        raise Refused(f"walk {kind}: r for a read, w for a write, x for a fetch")
    access = _ACCESSES[kind] if head and kind in _ACCESSES else Access()
    user = who == "user" if who else debugger.target.context.cpl == 3
    return Access(access.write, user, access.fetch)


@command("dump [cr3 VALUE|mm PID]", "a whole page directory, equal neighbours folded", _LOOK)
def dump(debugger: Debugger, text: str) -> Answer:
    where, rest = clauses(text, ("cr3", "mm"), "dump")
    if where:
        raise Refused(f"dump: cr3 VALUE or mm PID, not {where!r}")
    target, context = debugger.target, debugger.target.context
    asked = root(debugger, rest, "dump")
    cr3 = target.cr3 if asked is None else asked
    mode = table_dump.Mode(context.cr0, context.cr4, context.efer)
    found = list(islice(table_dump.runs_of(target.machine.memory, mode, cr3), MOST_ROWS + 1))
    more = len(found) > MOST_ROWS
    lines = [f"cr3 {cr3:08x}, {mode.format.name}", *table_dump.lines_of(found[:MOST_ROWS]), *["…"] * more]
    rows = [run.to_dict() for run in found[:MOST_ROWS]]
    return Answer(lines, {"dump": {"cr3": cr3, "format": mode.format.name, "rows": rows, "more": more}})


@command("tlb [CPU]", "what a CPU's TLB may hold, beside what the tables say", _LOOK)
def tlb(debugger: Debugger, text: str) -> Answer:
    target = debugger.target
    cpu = debugger.number(text, 0, len(target.machine.cpus) - 1) if text else target.viewed_cpu
    if target.tlb_watch is not None:
        return _told(debugger, cpu)
    if debugger.traveller is None or debugger.stop is None:
        raise Refused(NOT_WATCHED)
    answer: Answer = debugger.traveller.ask_watched(partial(_told, cpu=cpu), debugger.stop.moment)
    return answer


def _told(debugger: Debugger, cpu: int) -> Answer:
    target = debugger.target
    watch = target.tlb_watch
    if watch is None:
        raise Refused(NOT_WATCHED)
    found = tlb_view.rows(watch, target.machine.memory, cpu)
    since = f", watched since {target.watched_since}" if target.watched_since else ""
    return Answer(tlb_view.lines(found, cpu, since), {"tlb": tlb_view.to_dict(found, cpu)})
