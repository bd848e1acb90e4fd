"""Commands that look at the stopped machine.  None of them changes anything in it."""

from __future__ import annotations

import re
from collections.abc import Callable

from sandbox.debug import bare_maps, view
from sandbox.debug.commands import command
from sandbox.debug.commands.info import topic
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.expression import evaluate
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.operands import located
from sandbox.debug.physical import frame_dict, frame_lines
from sandbox.debug.poke import write
from sandbox.debug.target import WRAP, Refused

MOST_BYTES = 1 << 16
MOST_INSTRUCTIONS = 4096
_LOOK = "looking"
_FORM = re.compile(r"/(\d*)([xduotcsi]?)([bhwg]?)", re.ASCII)
_SIZES = {"b": 1, "h": 2, "w": 4, "g": 8}


def kernel_of(debugger: Debugger, what: str) -> KernelTarget:
    """The target, where a kernel is under it.  Raises Refused."""
    target = debugger.target
    if not isinstance(target, KernelTarget):
        target.refuse(what, "there is no kernel under it")
    return target


@command("code [WHERE] [N]", "disassemble N instructions (8)", _LOOK)
def code(debugger: Debugger, text: str) -> Answer:
    where, count = _last_number(debugger, text, 8, MOST_INSTRUCTIONS)
    at = debugger.address(where) if where else debugger.target.context.linear_eip & WRAP
    found = debugger.target.code(at, count)
    data = [{"address": each.address, "bytes": each.raw.hex(), "text": each.text} for each in found]
    next_one = found[0] if found and at == debugger.target.context.linear_eip & WRAP else None
    operands = [] if next_one is None else [each.text() for each in located(debugger.target.context, next_one)]
    lines = view.code_lines(debugger.target, at, count)
    lines[1:1] = [f"{'':13}{each}" for each in operands]
    return Answer(lines, {"code": data, "operands": operands})


def _last_number(debugger: Debugger, text: str, default: int, most: int) -> tuple[str, int]:
    """``WHERE N``: a last word that is a plain number is N."""
    where, _, last = text.rpartition(" ")
    if where and re.fullmatch(r"\d+|0x[0-9a-fA-F]+", last) and not where.rstrip().endswith(tuple("+-*/%&|^<>=(")):
        return where.strip(), min(debugger.number(last, 1), most)
    return text, default


@command("x[/NFS] WHERE [BYTES]", "memory: N items of format F (xduotcsi) and size S (bhwg), or BYTES in rows", _LOOK)
def examine(debugger: Debugger, text: str) -> Answer:
    form, text = _form(text)
    return _examine(debugger, form, text, debugger.address, debugger.target.read, "(not mapped)")


@command("xp[/NFS] PHYSICAL [BYTES]", "the same at a physical address", _LOOK)
def examine_physical(debugger: Debugger, text: str) -> Answer:
    form, text = _form(text)
    read = debugger.target.read_physical
    return _examine(debugger, form, text, lambda where: evaluate(where, debugger.here), read, "(no RAM)")


def _form(text: str) -> tuple[tuple[int, str, int] | None, str]:
    if not text.startswith("/"):
        return None, text
    word, _, rest = text.partition(" ")
    found = _FORM.fullmatch(word)
    if found is None:
        raise Refused(f"x{word}: count, format (xduotcsi) and size (bhwg)")
    count = int(found[1][:6] or 1)
    if not 0 < count <= MOST_BYTES:
        raise Refused(f"x{word}: from 1 to {MOST_BYTES} items")
    return (count, found[2] or "x", _SIZES.get(found[3], 4)), rest.strip()


def _examine(
    debugger: Debugger,
    form: tuple[int, str, int] | None,
    text: str,
    place: Callable[[str], int],
    read: Callable[[int, int], bytes],
    missing: str,
) -> Answer:
    if form is None:
        where, size = _last_number(debugger, text, 64, MOST_BYTES)
        at = place(where)
        data = read(at, size)
        return Answer(view.memory_lines(data, at, size, missing), {"address": at, "bytes": data.hex()})
    count, letter, size = form
    at = place(text)
    if letter == "i":
        return code(debugger, f"{at:#x} {count}")
    if letter == "s":
        data = read(at, MOST_BYTES)
        if not data:
            return Answer([f"{at:08x}  {missing}"], {"address": at, "bytes": ""})
        data = data.split(b"\0")[0]
        return Answer([f'{at:08x}  "{data.decode("latin-1")}"'], {"address": at, "bytes": data.hex()}, verbatim=True)
    data = read(at, count * size)
    words = [int.from_bytes(data[n : n + size], "little") for n in range(0, len(data) - size + 1, size)]
    return Answer(
        _rows(at, words, letter, size, missing if len(words) < count else ""), {"address": at, "values": words}
    )


def _rows(at: int, words: list[int], letter: str, size: int, missing: str) -> list[str]:
    each_row = max(1, 16 // size) if letter != "t" else max(1, 4 // size)
    told = [_formatted(word, letter, size) for word in words]
    lines = [f"{at + n * size:08x}  " + "  ".join(told[n : n + each_row]) for n in range(0, len(told), each_row)]
    return lines + ([f"{at + len(words) * size:08x}  {missing}"] if missing else [])


def _formatted(word: int, letter: str, size: int) -> str:
    if letter == "d":
        return str(word - (word >> 8 * size - 1 << 8 * size))
    if letter == "c":
        return repr(chr(word & 0xFF))
    form = {"x": f"0{2 * size}x", "u": "d", "o": "o", "t": f"0{8 * size}b"}[letter]
    return f"{word:{form}}"


@command("print EXPRESSION", "the value of an expression, as number and as address", _LOOK)
def print_(debugger: Debugger, text: str) -> Answer:
    value = evaluate(text, debugger.here)
    name = debugger.target.name_of(value) if value <= WRAP else ""
    shown = f"{value:#x}  {value}" + (f"  <{name}>" if name else "")
    return Answer([shown], {"value": value})


@command("maps", "areas of the task and regions of the kernel; of a ROM, what its tables map", _LOOK)
def maps(debugger: Debugger, text: str) -> Answer:
    target = debugger.target
    if isinstance(target, KernelTarget):
        return Answer(view.map_lines(target.system, target.mm), {"maps": view.map_dict(target.system, target.mm)})
    return Answer(*bare_maps.linear(target))


@topic("frames", "physical memory: whose each part is")
def frames(debugger: Debugger, text: str) -> Answer:
    target = debugger.target
    if isinstance(target, KernelTarget):
        return Answer(frame_lines(target.kernel, 80), {"frames": frame_dict(target.kernel)})
    return Answer(*bare_maps.physical(target))


@topic("tasks", "all tasks")
@command("tasks", "all tasks", _LOOK)
def tasks(debugger: Debugger, text: str) -> Answer:
    lines, data = [], []
    for task in kernel_of(debugger, "tasks").kernel.tasks.values():
        waits = f", waits for {task.wchan}" if task.state.value == "sleeping" else ""
        lines.append(f"{task.pid:>4}  {task.comm:15}  {task.state.value}{waits}, CPU {task.cpu.index}")
        data.append({"pid": task.pid, "name": task.comm, "state": task.state.value, "cpu": task.cpu.index})
    return Answer(lines, {"tasks": data})


@command("task [PID]", "look at a task; alone, which one", _LOOK)
def task_(debugger: Debugger, text: str) -> Answer:
    target = kernel_of(debugger, "task")
    if text:
        target.view_task(debugger.number(text))
    pid = target.task.pid if target.task is not None else 0
    return Answer([f"task {pid}", *_here(debugger)], {"pid": pid})


@command("cpu [N]", "look at a CPU; alone, which one", _LOOK)
def cpu(debugger: Debugger, text: str) -> Answer:
    target = debugger.target
    if text:
        index = debugger.number(text, 0, len(target.machine.cpus) - 1)
        target.view_cpu(index)
    return Answer([f"CPU {target.viewed_cpu}", *_here(debugger)], {"cpu": target.viewed_cpu})


def _here(debugger: Debugger) -> list[str]:
    return view.code_lines(debugger.target, debugger.target.context.linear_eip & WRAP)


@command("when", "the moment: the clock, and the instruction that comes next", _LOOK)
def when(debugger: Debugger, text: str) -> Answer:
    if debugger.stop is None:
        raise Refused("nothing has run yet")
    return Answer([debugger.stop.moment.text()], {"moment": debugger.stop.moment.text()})


@command("set WHAT = VALUE", "a register ($eax), or memory: a byte, word, dword or qword at WHERE", _LOOK)
def set_(debugger: Debugger, text: str) -> Answer:
    what, sign, value = text.partition("=")
    if not sign or not what.strip() or not value.strip():
        raise Refused("set: WHAT = VALUE")
    number, what = evaluate(value, debugger.here), what.strip()
    if what.startswith("$"):
        return _set_register(debugger, what[1:].lower(), number)
    width, _, where = what.partition(" ")
    size = {"byte": 1, "word": 2, "dword": 4, "qword": 8}.get(width, 0)
    at = debugger.address(where if size else what.removeprefix("*"))
    write(debugger, at, (number & (1 << 8 * (size or 4)) - 1).to_bytes(size or 4, "little"))
    return Answer(changed=True)


def _set_register(debugger: Debugger, name: str, value: int) -> Answer:
    context = debugger.target.context
    if name in context.general() or name in ("eip", "eflags", "cr2"):
        if value >> 32 and value < (1 << 64) - (1 << 31):
            raise Refused(f"${name}: 32 bits")
        setattr(context, name, value & WRAP)
        if name == "eip":
            context.resumes_at = context.passes = -1
        return Answer(changed=True)
    raise Refused(
        f"${name}: no register that can be set" if debugger.register(name) is None else f"${name} is not set from here"
    )
