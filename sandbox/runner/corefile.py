"""A core file of a process that a signal ends: ELF, as Linux writes it for i386 (fs/binfmt_elf.c, core(5)).

It is made when the kernel tells of the death, while all threads and areas are still there.  Memory is read from
outside, so that the run goes on as it would have.  Notes are laid out as in include/linux/elfcore.h for i386.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from struct import Struct, pack
from typing import BinaryIO

from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import SI_KERNEL, Action, default_action
from sandbox.kernel.abi.userdesc import UserDesc
from sandbox.kernel.base.events import Killed, SignalDelivered
from sandbox.kernel.base.time import SECOND
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.pte import is_mapped
from sandbox.kernel.mm.vma import VM_DONTDUMP, Vma
from sandbox.kernel.process.ptregs import get_fpregs, get_fpxregs, get_regs
from sandbox.kernel.procfs.task import STATES, area_name
from sandbox.kernel.task.task import GDT_ENTRY_TLS_MIN, Task
from sandbox.records import dataclass
from sandbox.x86.paging import PAGE_SIZE

ET_CORE, EM_386, PT_LOAD, PT_NOTE = 4, 3, 1, 4
NT_PRSTATUS, NT_FPREGSET, NT_PRPSINFO, NT_AUXV = 1, 2, 3, 6
NT_FILE, NT_SIGINFO, NT_PRXFPREG, NT_386_TLS = 0x46494C45, 0x53494749, 0x46E62B7F, 0x200
_ELF = Struct("<16sHHIIIIIHHHHHH")
_PHDR = Struct("<8I")
_IDENT = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
_PSARGS, _FNAME = 80, 16
_WORD = 0xFFFFFFFF
NOT_IN = -1


@dataclass(slots=True)
class Segment:
    """A piece of an area: [start, end), ``size`` bytes of it in the file, at ``pages`` (linear address, frame).

    Frame ``NOT_IN`` is a page that only its file has.
    """

    vma: Vma
    start: int
    end: int
    size: int
    pages: list[tuple[int, int]]
    offset: int = 0

    def header(self) -> bytes:
        prot = self.vma.prot
        flags = (prot & 1) << 2 | prot & 2 | prot >> 2 & 1
        return _PHDR.pack(PT_LOAD, self.offset, self.start, 0, self.size, self.end - self.start, flags, PAGE_SIZE)


class CoreFiles:
    """Writes one for each process for which Linux would; ``%p``, ``%e`` and ``%s`` in the path are as in core(5)."""

    def __init__(self, kernel: Kernel, path: str) -> None:
        self._kernel, self._path = kernel, path
        self._infos: dict[int, SigInfo] = {}
        self.written: list[tuple[int, str, str]] = []
        """(pid, command, path), in their order."""
        self.error = ""
        """Why the last one could not be written."""
        kernel.bus.subscribe(self._delivered, SignalDelivered)
        kernel.bus.subscribe(self._killed, Killed)

    def _delivered(self, event: SignalDelivered) -> None:
        self._infos[event.pid] = SigInfo(event.signal, event.code, event.union)

    def _killed(self, event: Killed) -> None:
        task = self._kernel.tasks.get(event.pid)
        if task is None or task.mm is None or default_action(event.signal) is not Action.CORE:
            return
        info = self._infos.get(event.pid)
        if info is None or info.signo != event.signal:
            info = SigInfo.sent(event.signal, SI_KERNEL, 0)
        path = Path(_expanded(self._path, task, event.signal))
        try:
            with path.open("wb") as file:
                write_core(self._kernel, task, info, file)
        except OSError as error:
            self.error = f"{path}: {error.strerror or error}"
            return
        self.written.append((task.tgid, task.comm, str(path)))


def _expanded(path: str, task: Task, signal: int) -> str:
    words = {"%p": str(task.tgid), "%e": task.comm.replace("/", "!"), "%s": str(signal), "%%": "%"}
    return re.sub("%.", lambda found: words.get(found[0], ""), path)


def write_core(kernel: Kernel, task: Task, info: SigInfo, file: BinaryIO) -> None:
    """The process of a task, which ``info`` ends.  Raises OSError."""
    assert task.mm is not None
    notes = b"".join(_notes(kernel, task, info))
    segments = [piece for vma in task.mm.vmas for piece in segments_of(kernel, task.mm, vma)]
    count = 1 + len(segments)
    at = _ELF.size + _PHDR.size * count
    headers = [_PHDR.pack(PT_NOTE, at, 0, 0, len(notes), 0, 0, 4)]
    at = -(-(at + len(notes)) // PAGE_SIZE) * PAGE_SIZE
    for each in segments:
        each.offset = at
        headers.append(each.header())
        at += each.size
    ident = _IDENT, ET_CORE, EM_386, 1, 0, _ELF.size, 0, 0, _ELF.size, _PHDR.size, count, 0, 0, 0
    file.write(_ELF.pack(*ident) + b"".join(headers) + notes)
    file.truncate(at)
    for each in segments:
        for linear, frame in each.pages:
            file.seek(each.offset + linear - each.start)
            file.write(_page(kernel, each.vma, linear, frame))


# -- memory ----------------------------------------------------------------------------------------------------------


def segments_of(kernel: Kernel, mm: Mm, vma: Vma) -> Iterator[Segment]:
    """An area in pieces: of a file only what is in memory, for the rest is in the file; all else whole, with holes."""
    pages = [] if vma.flags & VM_DONTDUMP else list(_pages(kernel, mm, vma))
    if vma.inode is None or not pages:
        yield Segment(vma, vma.start, vma.end, vma.size if pages else 0, pages)
        return
    here = vma.start
    for start, end, run in _runs(pages):
        if start > here:
            yield Segment(vma, here, start, 0, [])
        yield Segment(vma, start, end, end - start, run)
        here = end
    if here < vma.end:
        yield Segment(vma, here, vma.end, 0, [])


def _pages(kernel: Kernel, mm: Mm, vma: Vma) -> Iterator[tuple[int, int]]:
    found = {
        linear: kernel.tables.pte_pfn(entry)
        for linear, entry in kernel.tables.user_ptes(mm.pgd, vma.start, vma.end)
        if is_mapped(entry)
    }
    if vma.start == mm.vdso:  # no file of the host has it, so that all of it is in the core (always_dump_vma)
        found = {linear: found.get(linear, NOT_IN) for linear in range(vma.start, vma.end, PAGE_SIZE)}
    for linear, frame in found.items():
        if frame == NOT_IN or kernel.memory.is_ram(frame * PAGE_SIZE, PAGE_SIZE):
            yield linear, frame


def _runs(pages: list[tuple[int, int]]) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """(start, end, pages) of neighbours."""
    run: list[tuple[int, int]] = []
    for each in pages:
        if run and each[0] != run[-1][0] + PAGE_SIZE:
            yield run[0][0], run[-1][0] + PAGE_SIZE, run
            run = []
        run.append(each)
    yield run[0][0], run[-1][0] + PAGE_SIZE, run


def _page(kernel: Kernel, vma: Vma, linear: int, frame: int) -> bytes:
    if frame == NOT_IN:
        assert vma.inode is not None
        return vma.inode.read_block(vma.pgoff + (linear - vma.start) // PAGE_SIZE)
    at = kernel.memory.host_index(frame * PAGE_SIZE)
    return bytes(kernel.memory.bytes[at : at + PAGE_SIZE])


# -- notes -----------------------------------------------------------------------------------------------------------


def _note(kind: int, data: bytes, name: bytes = b"CORE") -> bytes:
    name += b"\0"
    return pack("<3I", len(name), len(data), kind) + _padded(name) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _notes(kernel: Kernel, task: Task, info: SigInfo) -> Iterator[bytes]:
    """In Linux's order: the thread that died, what is known of the process, the other threads."""
    mm = task.mm
    assert mm is not None
    yield _note(NT_PRSTATUS, prstatus(task, info))
    yield _note(NT_PRPSINFO, prpsinfo(kernel, task))
    yield _note(NT_SIGINFO, info.pack())
    yield _note(NT_AUXV, mm.auxv)
    yield _note(NT_FILE, mapped_files(kernel, task))
    yield from _registers(task)
    for each in task.group.threads:
        if each is not task and not each.exiting:
            yield _note(NT_PRSTATUS, prstatus(each, info))
            yield from _registers(each)


def _registers(task: Task) -> Iterator[bytes]:
    yield _note(NT_FPREGSET, get_fpregs(task))
    yield _note(NT_PRXFPREG, get_fpxregs(task), b"LINUX")
    if any(task.tls):
        rows = (UserDesc.of_descriptor(GDT_ENTRY_TLS_MIN + at, each) for at, each in enumerate(task.tls))
        yield _note(NT_386_TLS, b"".join(each.pack() for each in rows), b"LINUX")


def prstatus(task: Task, info: SigInfo) -> bytes:
    """``struct elf_prstatus`` of i386, 144 bytes."""
    group, state = task.group, task.signals
    times = task.utime, task.stime, group.children_utime, group.children_stime
    return (
        pack("<3ihxx", info.signo, info.code, info.errno, info.signo)
        + pack("<2I", state.waiting & _WORD, state.blocked & _WORD)
        + pack("<4i", task.pid, _parent(task), task.pgid, task.sid)
        + b"".join(pack("<2i", each // SECOND, each % SECOND * 1_000_000 // SECOND) for each in times)
        + get_regs(task)
        + pack("<i", 1)
    )


def prpsinfo(kernel: Kernel, task: Task) -> bytes:
    """``struct elf_prpsinfo`` of i386, 124 bytes."""
    mm = task.mm
    assert mm is not None
    arguments = kernel.peek.read_user(mm, mm.arg_start, min(mm.arg_end - mm.arg_start, _PSARGS - 1))
    return pack(
        f"<bcbbIHH4i{_FNAME}s{_PSARGS}s", 0, STATES[task.state][0].encode(), 0, task.nice, 0,
        task.cred.uid.real & 0xFFFF, task.cred.gid.real & 0xFFFF, task.tgid, _parent(task), task.pgid, task.sid,
        task.comm.encode("utf-8", "surrogateescape")[: _FNAME - 1], arguments.replace(b"\0", b" "),
    )  # fmt: skip


def _parent(task: Task) -> int:
    return task.parent.tgid if task.parent is not None else 0


def mapped_files(kernel: Kernel, task: Task) -> bytes:
    """NT_FILE: count and page size, then [start, end) and the page of the file for each, then the names."""
    assert task.mm is not None
    areas = [(each, area_name(kernel, task, each)) for each in task.mm.vmas if each.inode is not None]
    named = [(each, name) for each, name in areas if name.startswith("/")]
    rows = b"".join(pack("<3I", each.start, each.end, each.pgoff) for each, _ in named)
    names = b"".join(name.encode("utf-8", "surrogateescape") + b"\0" for _, name in named)
    return pack("<2I", len(named), PAGE_SIZE) + rows + names
