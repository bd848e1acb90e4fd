"""Frames and the kernel's own address space: ``page``, ``who``, ``info vmalloc|kmap|kva|zones|modules|signals``."""

from __future__ import annotations

from typing import Any

from sandbox.debug import frame_view, view
from sandbox.debug.commands import command
from sandbox.debug.commands.info import topic
from sandbox.debug.commands.look import kernel_of
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.physical import frame_dict, zone_lines
from sandbox.debug.target import Refused
from sandbox.kernel.abi import signals as abi
from sandbox.kernel.mm.kmap_atomic import type_name
from sandbox.x86.paging import PAGE_SHIFT

_LOOK = "looking"
LAST_PFN = (1 << 28) - 1
"""Frames that 40 physical bits name."""


@command("page PFN", "a frame: its struct page, who has it, every address that leads to it", _LOOK)
def page(debugger: Debugger, text: str) -> Answer:
    pfn = debugger.number(text, 0, LAST_PFN)
    target = debugger.target
    if isinstance(target, KernelTarget):
        return Answer(*frame_view.page_lines(target, pfn))
    return _frame(debugger, pfn)


def _frame(debugger: Debugger, pfn: int) -> Answer:
    """A frame without a structure that we could read: who answers there, and what leads to it."""
    found = list(frame_view.mappings(debugger.target, pfn))
    owner = frame_view.holder(debugger.target, pfn)
    lines = [f"frame {pfn:#x}, physical {pfn << PAGE_SHIFT:#x}: {owner}", "mapped", *frame_view.mapping_lines(found)]
    return Answer(lines, {"page": {"pfn": pfn, "owner": owner, "mappings": frame_view.mapping_dicts(found)}})


@command("who ADDRESS|frame PFN", "what lies at a linear address, whose the frame is, what else leads to it", _LOOK)
def who(debugger: Debugger, text: str) -> Answer:
    word, _, rest = text.partition(" ")
    if word in ("frame", "pfn") and rest.strip():
        return page(debugger, rest.strip())
    at = debugger.address(text)
    found = debugger.target.walk(at)
    if found.physical is None and at >> 20 == 0 and frame_view.is_frame(debugger.target, at):
        return page(debugger, text)
    return Answer(*frame_view.who_lines(debugger.target, at))


@topic("vmalloc", "areas of vmalloc, of modules, of devices")
def vmalloc(debugger: Debugger, text: str) -> Answer:
    target = kernel_of(debugger, "info vmalloc")
    areas = list(target.kernel.vmalloc.areas)
    data = [
        {"start": area.start, "end": area.end, "kind": area.kind, "frames": list(area.frames), "owned": area.owned}
        for area in areas
    ]
    lines = [f"{view.area_line(target.system, area).strip()}  the first frame {area.frames[0]:#x}" for area in areas]
    return Answer(lines or ["no areas"], {"vmalloc": data})


@topic("kmap", "the pool of kmap, and the open windows of kmap_atomic")
def kmap(debugger: Debugger, text: str) -> Answer:
    kernel = kernel_of(debugger, "info kmap").kernel
    pool = kernel.kmap
    slots = [
        {"linear": pool.address(slot), "pfn": pfn, "users": pool.counts[slot] - 1}
        for pfn, slot in sorted(pool.pages.items(), key=lambda pair: pair[1])
    ]
    windows = [
        {"cpu": cpu, "linear": each.linear, "frames": list(each.frames), "type": type_name(each.km_type),
         "owner": each.owner}
        for cpu, live in enumerate(kernel.highmem.windows.live)
        for each in live.values()
    ]  # fmt: skip
    lines = [f"kmap: {len(slots)} of {pool.capacity} slots have a page", *map(_slot, slots)]
    lines += [f"kmap_atomic: {len(windows)} windows are open"]
    lines += [
        f"  {each}, on CPU {cpu}" for cpu, live in enumerate(kernel.highmem.windows.live) for each in live.values()
    ]
    return Answer(lines, {"kmap": slots, "windows": windows})


def _slot(each: dict[str, Any]) -> str:
    users = each["users"]
    return f"  {each['linear']:08x}  frame {each['pfn']:#x}  {users} user{'s' * (users != 1)}"


@topic("kva", "the pool of page_kva: which page has which address")
def kva(debugger: Debugger, text: str) -> Answer:
    pool = kernel_of(debugger, "info kva").kernel.kva
    slots = [
        {"linear": slot.linear, "pfn": pfn, "users": len(slot.users)}
        for pfn, slot in sorted(pool.mapped.items(), key=lambda pair: pair[1].linear)
    ]
    return Answer([f"kva: {len(slots)} of {pool.capacity} slots have a page", *map(_slot, slots)], {"kva": slots})


@topic("zones", "zones of physical memory, free blocks by size")
def zones(debugger: Debugger, text: str) -> Answer:
    kernel = kernel_of(debugger, "info zones").kernel
    told = frame_dict(kernel)
    return Answer(zone_lines(kernel, narrow=True), {"zones": told["zones"], "marks": told["marks"]})


@topic("modules", "modules that are loaded, and their sections")
def modules(debugger: Debugger, text: str) -> Answer:
    system = kernel_of(debugger, "info modules").system
    lines, data = [], []
    for each in system.modules.loaded:
        uses = system.modules.use_count(each)
        lines.append(f"{each.name}  {each.base:08x}-{each.base + each.size:08x}  in use {uses}")
        lines += [f"  {start:08x}-{start + size:08x}  {name}" for name, (start, size) in each.sections.items()]
        sections = {name: {"start": start, "size": size} for name, (start, size) in each.sections.items()}
        data.append({"name": each.name, "base": each.base, "size": each.size, "uses": uses, "sections": sections})
    return Answer(lines or ["no modules"], {"modules": data})


@topic("signals", "of the task: what waits, what is blocked, what is caught")
def signals(debugger: Debugger, text: str) -> Answer:
    task = kernel_of(debugger, "info signals").task
    if task is None:
        raise Refused("info signals: no task runs here; choose one with task PID")
    state = task.signals
    told = {
        "pending": _names(state.private.waiting), "pending_process": _names(state.shared.waiting),
        "blocked": _names(state.blocked),
    }  # fmt: skip
    caught = {_name(number): action.handler for number, action in enumerate(state.hand.actions) if action.handler}
    lines = [f"task {task.pid}"]
    lines += [f"  {name.replace('_', ' of the ')}: {' '.join(words) or 'none'}" for name, words in told.items()]
    for name, handler in caught.items():
        at = debugger.target.name_of(handler)
        lines.append(f"  {name} " + ("is ignored" if handler == 1 else f"is caught at {handler:08x} {at}".rstrip()))
    return Answer(lines, {"pid": task.pid, **told, "handlers": caught})


def _names(mask: int) -> list[str]:
    return [_name(number + 1) for number in range(64) if mask >> number & 1]


def _name(number: int) -> str:
    return abi.NAMES.get(number, f"SIGRT_{number - abi.SIGRTMIN}")
