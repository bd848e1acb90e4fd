"""Files of /proc about one task, in the formats of proc(5)."""

from __future__ import annotations

import os
from collections.abc import Callable

from sandbox.engine.context import EBP, EBX, ECX, EDI, EDX, ESI
from sandbox.kernel.abi.errno import EACCES, EINVAL, KernelError
from sandbox.kernel.abi.flags import POLLIN
from sandbox.kernel.abi.poll import POLLRDNORM
from sandbox.kernel.abi.signals import SIG_DFL, SIG_IGN
from sandbox.kernel.abi.structs import major, minor
from sandbox.kernel.base.time import TICK
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.pte import is_mapped
from sandbox.kernel.mm.rlimit import RLIM_INFINITY, RLIMIT_SIGPENDING, RLIMIT_STACK
from sandbox.kernel.mm.vma import VM_GROWSDOWN, VM_SHARED, Vma
from sandbox.kernel.procfs.mem import Mem
from sandbox.kernel.procfs.memory import PageMap, clear_refs, smaps_of, smaps_rollup
from sandbox.kernel.procfs.net import net_folder
from sandbox.kernel.procfs.nodes import Folder, Link, Make, Text, TextFile
from sandbox.kernel.procfs.system import mounts
from sandbox.kernel.task.cred import Ids
from sandbox.kernel.task.sigqueue import bit_of
from sandbox.kernel.task.task import State, Task, ThreadGroup
from sandbox.kernel.vfs.dcache import Dentry, unnamed
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import Inode
from sandbox.x86.paging import PAGE_SIZE

INOS = 4096
"""Inode numbers of one task's files."""
NAME_COLUMN = 49
COMM_BYTES = 15
STATES = {
    State.RUNNING: ("R", "running"), State.SLEEPING: ("S", "sleeping"), State.STOPPED: ("T", "stopped"),
    State.TRACED: ("t", "tracing stop"), State.ZOMBIE: ("Z", "zombie"), State.DEAD: ("X", "dead"),
}  # fmt: skip
LIMITS = (
    ("Max cpu time", "seconds"), ("Max file size", "bytes"), ("Max data size", "bytes"), ("Max stack size", "bytes"),
    ("Max core file size", "bytes"), ("Max resident set", "bytes"), ("Max processes", "processes"),
    ("Max open files", "files"), ("Max locked memory", "bytes"), ("Max address space", "bytes"),
    ("Max file locks", "locks"), ("Max pending signals", "signals"), ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""), ("Max realtime priority", ""), ("Max realtime timeout", "us"),
)  # fmt: skip


MODES = {
    b"environ": 0o400, b"auxv": 0o400, b"syscall": 0o400, b"comm": 0o644, b"oom_score_adj": 0o644, b"clear_refs": 0o200,
}  # fmt: skip
Take = Callable[[bytes], None]
OOM_SCORE_ADJ = 1000
"""The largest; its negative means never."""


def _unreadable() -> bytes:
    raise KernelError(EINVAL)


def _pagemap(kernel: Kernel, task: Task, ino: int) -> PageMap:
    found = PageMap(TextFile(kernel.uaccess), ino, _unreadable, 0o400)
    found.kernel, found.task = kernel, task
    return found


def task_folder(kernel: Kernel, task: Task, thread: bool = False) -> Folder:
    """/proc/PID, or of one thread /proc/PID/task/TID, which has no directory of threads."""
    first = (task.pid * 2 + thread) * INOS
    texts: dict[bytes, Make] = {
        b"cmdline": lambda: _strings(kernel, task, 0),
        b"auxv": lambda: task.mm.auxv if task.mm is not None else b"",
        b"comm": lambda: os.fsencode(task.comm) + b"\n",
        b"environ": lambda: _strings(kernel, task, 1),
        b"limits": lambda: _limits(task),
        b"maps": lambda: _maps(kernel, task),
        b"mounts": lambda: mounts(kernel),
        b"oom_score": lambda: b"%d\n" % _oom_score(kernel, task),
        b"oom_score_adj": lambda: b"%d\n" % task.oom_score_adj,
        b"smaps": lambda: _maps(kernel, task, with_pages=True),
        b"smaps_rollup": lambda: smaps_rollup(kernel, task, NAME_COLUMN),
        b"stat": lambda: _stat(kernel, task, thread),
        b"statm": lambda: _statm(kernel, task),
        b"status": lambda: _status(kernel, task),
        b"syscall": lambda: _syscall(kernel, task),
    }
    takers: dict[bytes, Take] = {
        b"clear_refs": lambda data: clear_refs(kernel, task, data),
        b"comm": lambda data: _set_comm(kernel, task, data),
        b"oom_score_adj": lambda data: _set_oom_score_adj(kernel, task, data),
    }
    links = {
        b"cwd": lambda: task.cwd,
        b"root": lambda: kernel.files.root_of(task),
    }
    others = (b"exe", b"fd", b"task", b"net", b"clear_refs", b"pagemap", b"mem")
    numbers = {name: first + 1 + at for at, name in enumerate((*texts, *links, *others))}
    if thread:
        del numbers[b"task"]

    def find(name: bytes) -> Inode | None:
        ino = numbers.get(name, 0)
        if name == b"pagemap":
            return _pagemap(kernel, task, ino)
        if name == b"mem":
            return Mem(kernel, task, ino)
        if name in texts or name in takers:
            text = Text(TextFile(kernel.uaccess), ino, texts.get(name, _unreadable), MODES.get(name, 0o444))
            text.take = takers.get(name)
            text.polls = POLLIN | POLLRDNORM if name == b"mounts" else None
            return text
        if name in links:
            return _dentry_link(kernel, ino, links[name])
        if name == b"exe":
            return _exe(kernel, task, ino)
        if name == b"fd":
            return _descriptors(kernel, task, ino)
        if name == b"net":
            return net_folder(kernel, ino)
        if name == b"task" and not thread:
            return _threads(kernel, task.group, ino)
        return None

    folder = Folder(first, lambda: list(numbers), find)
    folder.born = kernel.clock.epoch + task.started
    folder.owner = lambda: (task.cred.uid.effective, task.cred.gid.effective)
    return folder


def _threads(kernel: Kernel, group: ThreadGroup, ino: int) -> Folder:
    """/proc/PID/task."""

    def find(name: bytes) -> Inode | None:
        found = next((task for task in group.threads if b"%d" % task.pid == name), None)
        return task_folder(kernel, found, thread=True) if found is not None else None

    return Folder(ino, lambda: [b"%d" % task.pid for task in group.threads], find)


# -- links -------------------------------------------------------------------------------------------------------


def _dentry_link(kernel: Kernel, ino: int, where: Callable[[], Dentry | None]) -> Link:
    def there() -> Dentry:
        dentry: Dentry | None = where()
        if dentry is None:
            raise KernelError(EACCES)
        return dentry

    return Link(ino, lambda: there().label(kernel.files.root), there)


def _exe(kernel: Kernel, task: Task, ino: int) -> Link | None:
    inode = task.exe_inode
    if inode is None or task.mm is None:
        return None
    name = os.fsencode(task.exe)
    return Link(ino, lambda: name, lambda: Dentry(inode, name.lstrip(b"/"), kernel.files.root))


def _descriptors(kernel: Kernel, task: Task, ino: int) -> Folder:
    def find(name: bytes) -> Inode | None:
        if not name.isdigit() or int(name) not in task.files:
            return None
        file = task.files.get(int(name))
        dentry = file.dentry

        def label() -> bytes:
            if dentry is not None:
                return dentry.label(kernel.files.root)
            return _label(file.inode)

        return Link(
            ino + 64 + int(name) % (INOS // 2), label, lambda: dentry or unnamed(file.inode, _label(file.inode))
        )

    return Folder(ino, lambda: [b"%d" % fd for fd, _ in task.files], find)


def _label(inode: Inode) -> bytes:
    """What has no path: its kind and number."""
    kind = {0o010000: "pipe", 0o140000: "socket"}.get(inode.kind)
    return f"{kind}:[{inode.ino}]".encode() if kind else os.fsencode(inode.name)


# -- memory ------------------------------------------------------------------------------------------------------


def _strings(kernel: Kernel, task: Task, which: int) -> bytes:
    mm = task.mm
    if mm is None:
        return b""
    start, end = ((mm.arg_start, mm.arg_end), (mm.env_start, mm.env_end))[which]
    return kernel.peek.read_user(mm, start, end - start)


def area_name(kernel: Kernel, task: Task, vma: Vma) -> str:
    """What maps calls an area: its file, what it is for, or nothing."""
    mm = task.mm
    assert mm is not None
    if isinstance(vma.file, File) and vma.file.dentry is not None:
        return os.fsdecode(vma.file.dentry.label(kernel.files.root)).replace("\n", "\\012")
    if isinstance(vma.file, str):
        return vma.file.replace("\n", "\\012")
    if vma.inode is not None:
        return vma.inode.name
    if vma.start < mm.vmas.brk and vma.end > mm.vmas.start_brk:
        return "[heap]"
    return "[stack]" if vma.start <= mm.start_stack <= vma.end else ""


def _maps(kernel: Kernel, task: Task, with_pages: bool = False) -> bytes:
    """maps, or smaps."""
    lines = []
    for vma in task.mm.vmas if task.mm is not None else ():
        letters = "".join(letter if vma.prot & bit else "-" for letter, bit in zip("rwx", (1, 2, 4), strict=True))
        device = ino = 0
        inode = vma.file.inode if isinstance(vma.file, File) else vma.inode
        if inode is not None:
            found = inode.stat()
            device, ino = found.dev, found.ino
        head = (
            f"{vma.start:08x}-{vma.end:08x} {letters}{'s' if vma.shared else 'p'} {vma.pgoff * PAGE_SIZE:08x} "
            f"{major(device):02x}:{minor(device):02x} {ino} "
        )
        name = area_name(kernel, task, vma)
        lines.append((head.ljust(NAME_COLUMN) + name if name else head) + "\n")
        if with_pages and task.mm is not None:
            lines.append(smaps_of(kernel, task.mm.pgd, vma))
    return "".join(lines).encode()


def _priority(kernel: Kernel, task: Task) -> int:
    """proc(5): 0 to 39 after the nice value, -2 to -100 for real-time priorities, -101 for deadlines; as inherited."""
    rank = kernel.pi_futexes.rank(task)
    return -1 - rank if rank else 20 + task.nice


def _pages(kernel: Kernel, task: Task) -> dict[str, int]:
    """Pages of a task by kind."""
    found = dict.fromkeys(("size", "resident", "shared", "text", "data", "stack", "table"), 0)
    mm = task.mm
    if mm is None:
        return found
    for vma in mm.vmas:
        pages = vma.size // PAGE_SIZE
        found["size"] += pages
        here = sum(1 for _, entry in kernel.tables.user_ptes(mm.pgd, vma.start, vma.end) if is_mapped(entry))
        found["resident"] += here
        if vma.inode is not None:
            found["shared"] += here
        if vma.flags & VM_GROWSDOWN:
            found["stack"] += pages
        elif vma.prot & 2 and not vma.flags & VM_SHARED:
            found["data"] += pages
    found["text"] = -(-(mm.end_code - mm.start_code) // PAGE_SIZE)
    return found


def _statm(kernel: Kernel, task: Task) -> bytes:
    pages = _pages(kernel, task)
    return (
        f"{pages['size']} {pages['resident']} {pages['shared']} {pages['text']} 0 {pages['data'] + pages['stack']} 0\n"
    ).encode()


# -- state -------------------------------------------------------------------------------------------------------


def _masks(task: Task) -> tuple[int, int]:
    """Signals that are ignored and that have a handler, as bits."""
    ignored = caught = 0
    for number, action in enumerate(task.signals.hand.actions):
        if number and action.handler == SIG_IGN:
            ignored |= bit_of(number)
        elif number and action.handler != SIG_DFL:
            caught |= bit_of(number)
    return ignored, caught


def _ids(ids: Ids) -> str:
    return f"{ids.real}\t{ids.effective}\t{ids.saved}\t{ids.fs}"


def _status(kernel: Kernel, task: Task) -> bytes:
    pages = _pages(kernel, task)
    letter, word = STATES[task.state]
    signals = task.signals
    ignored, caught = _masks(task)
    parent = task.parent.tgid if task.parent is not None else 0
    tracer = task.ptrace.tracer.tgid if task.ptrace is not None else 0
    kilobytes = PAGE_SIZE // 1024
    rows = [
        ("Name", task.comm), ("Umask", f"{task.umask:04o}"), ("State", f"{letter} ({word})"), ("Tgid", task.tgid),
        ("Ngid", 0), ("Pid", task.pid), ("PPid", parent), ("TracerPid", tracer), ("Uid", _ids(task.cred.uid)),
        ("Gid", _ids(task.cred.gid)), ("FDSize", max(64, len(task.files))),
        ("Groups", "".join(f"{group} " for group in task.cred.groups) or " "),
    ]  # fmt: skip
    if task.mm is not None:
        rows += [
            (name, f"{pages[kind] * kilobytes:8} kB")
            for name, kind in (("VmPeak", "size"), ("VmSize", "size"), ("VmHWM", "resident"), ("VmRSS", "resident"),
                               ("VmData", "data"), ("VmStk", "stack"), ("VmExe", "text"))
        ]  # fmt: skip
    rows += [
        ("Threads", len(task.group.threads)),
        ("SigQ", f"{kernel.signals.user_of(task).sigpending}/{task.limits[RLIMIT_SIGPENDING][0]}"),
        ("SigPnd", f"{signals.private.waiting:016x}"), ("ShdPnd", f"{signals.shared.waiting:016x}"),
        ("SigBlk", f"{signals.blocked:016x}"), ("SigIgn", f"{ignored:016x}"),
        ("SigCgt", f"{caught:016x}"),
    ]  # fmt: skip
    return "".join(f"{name}:\t{value}\n" for name, value in rows).encode()


def _stat(kernel: Kernel, task: Task, thread: bool) -> bytes:
    pages = _pages(kernel, task)
    mm = task.mm
    signals = task.signals
    ignored, caught = _masks(task)
    tty = kernel.jobctl.tty
    has_tty = tty is not None and tty.session == task.sid
    stack = task.limits[RLIMIT_STACK][0]
    low = 0x7FFFFFFF
    group = task.group
    parent = task.parent.tgid if task.parent is not None else 0
    used = (task.utime, task.stime) if thread else (group.utime, group.stime)
    fields = [
        task.pid, f"({task.comm})", STATES[task.state][0], parent, task.pgid,
        task.sid, 34816 if has_tty else 0, tty.pgrp if has_tty and tty is not None else -1, 0, 0, 0, 0, 0,
        *(each // TICK for each in (*used, group.children_utime, group.children_stime)),
        _priority(kernel, task), task.nice, len(group.threads), 0, task.started // TICK,
        pages["size"] * PAGE_SIZE, pages["resident"], stack if stack != RLIM_INFINITY else 0xFFFFFFFF,
        mm.start_code if mm else 0, mm.end_code if mm else 0, mm.start_stack if mm else 0, 0, 0,
        signals.waiting & low, signals.blocked & low, ignored & low, caught & low, 0, 0, 0, task.exit_signal,
        task.cpu.index, 0, 0, 0, 0, 0, mm.start_data if mm else 0, mm.end_data if mm else 0,
        mm.vmas.start_brk if mm else 0, mm.arg_start if mm else 0, mm.arg_end if mm else 0, mm.env_start if mm else 0,
        mm.env_end if mm else 0, 0,
    ]  # fmt: skip
    return (" ".join(str(field) for field in fields) + "\n").encode()


def _limits(task: Task) -> bytes:
    lines = [f"{'Limit':25} {'Soft Limit':20} {'Hard Limit':20} {'Units':10}\n"]
    for (name, unit), values in zip(LIMITS, task.limits, strict=True):
        soft, hard = ("unlimited" if each == RLIM_INFINITY else str(each) for each in values)
        lines.append(f"{name:25} {soft:20} {hard:20} {unit:10}\n")
    return "".join(lines).encode()


def _set_comm(kernel: Kernel, task: Task, data: bytes) -> None:
    """Another name for a thread of the writer's process.  Raises KernelError(EINVAL)."""
    writer = kernel.sched.current
    if writer is None or writer.group is not task.group:
        raise KernelError(EINVAL)
    task.comm = os.fsdecode(data.split(b"\0")[0][:COMM_BYTES])


def _oom_score(kernel: Kernel, task: Task) -> int:
    """Linux's oom_badness, scaled to 0 to 2000 and two thirds of that (proc_oom_score)."""
    if task.oom_score_adj == -OOM_SCORE_ADJ or task.mm is None:
        return 0
    total = max(1, kernel.pgdat.total_frames)
    return max(0, (OOM_SCORE_ADJ + task.oom_score_adj + _pages(kernel, task)["resident"] * 1000 // total) * 2 // 3)


def _set_oom_score_adj(kernel: Kernel, task: Task, data: bytes) -> None:
    """Raises KernelError: EINVAL, EACCES for less than before without the capability."""
    text = data.strip(b" \n\0")
    try:
        wanted = int(text)
    except ValueError as error:
        raise KernelError(EINVAL) from error
    if abs(wanted) > OOM_SCORE_ADJ:
        raise KernelError(EINVAL)
    caller = kernel.sched.current
    if wanted < task.oom_score_adj and caller is not None and not caller.cred.capable:
        raise KernelError(EACCES)
    task.oom_score_adj = wanted


def _syscall(kernel: Kernel, task: Task) -> bytes:
    """The call that a task is in and its six arguments, its stack pointer and instruction."""
    current = kernel.this_cpu.current
    if task.state is State.RUNNING and task is not current:
        return b"running\n"
    context = task.context
    quads, end = context.quads, f"{context.esp:#x} {context.eip:#x}\n"
    if task.orig_eax < 0:
        return f"-1 {end}".encode()
    arguments = " ".join(f"{quads[slot] & 0xFFFFFFFF:#x}" for slot in (EBX, ECX, EDX, ESI, EDI, EBP))
    return f"{task.orig_eax & 0xFFFFFFFF} {arguments} {end}".encode()
