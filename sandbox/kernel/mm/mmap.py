"""mmap, munmap, mprotect, brk: areas change, then tables, then the TLB, then frames are released."""

from __future__ import annotations

from collections.abc import Iterable

from sandbox.kernel.abi.errno import (
    EACCES,
    EEXIST,
    EINVAL,
    ENODEV,
    ENOMEM,
    EOPNOTSUPP,
    EOVERFLOW,
    EPERM,
    KernelError,
)
from sandbox.kernel.abi.flags import S_IFREG
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.events import MapChange
from sandbox.kernel.base.inject import Breakage, OutOfMemory
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.base.trace import Trace
from sandbox.kernel.mm.codecache import CodeCache
from sandbox.kernel.mm.entries import Entries
from sandbox.kernel.mm.fault import UNRESOLVED, PageFaults
from sandbox.kernel.mm.filemap import PageCache, SharedMemory
from sandbox.kernel.mm.mm import Mm, Process
from sandbox.kernel.mm.msync import DirtyPage, Writeback, writes_back
from sandbox.kernel.mm.pte import access, is_mapped, is_present, no_access
from sandbox.kernel.mm.rlimit import RLIM_INFINITY, RLIMIT_AS, RLIMIT_DATA, may_expand
from sandbox.kernel.mm.vma import (
    MMAP_MIN_ADDR,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_MAYWRITE,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_SHARED,
    Vma,
    page_align,
)
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import Inode
from sandbox.x86.paging import NX, PAGE_MASK, PAGE_SIZE, RW, D

MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE, MAP_TYPE = 1, 2, 3, 0xF
MAP_FIXED, MAP_ANONYMOUS, MAP_GROWSDOWN, MAP_LOCKED = 0x10, 0x20, 0x100, 0x2000
MAP_POPULATE, MAP_NONBLOCK, MAP_FIXED_NOREPLACE = 0x8000, 0x10000, 0x100000
MAP_NORESERVE, MAP_STACK, MAP_HUGETLB, MAP_HUGE_SHIFT, MAP_HUGE_MASK = 0x4000, 0x20000, 0x40000, 26, 0x3F
_KNOWN_FLAGS = 0x7C07F9F3
"""What MAP_SHARED_VALIDATE lets pass (Linux's LEGACY_MAP_MASK): not MAP_SYNC, not MAP_FIXED_NOREPLACE."""
_KEPT_FLAGS = (
    (MAP_LOCKED, VM_LOCKED), (MAP_GROWSDOWN, VM_GROWSDOWN), (MAP_NORESERVE, VM_NORESERVE), (MAP_STACK, VM_NOHUGEPAGE),
)  # fmt: skip
PROT_ALL = PROT_READ | PROT_WRITE | PROT_EXEC
PROT_SEM, PROT_GROWSDOWN, PROT_GROWSUP = 8, 0x01000000, 0x02000000
MAX_MAP_COUNT = 65530
"""Areas of one address space."""


class Mmap:
    """The calls that change what a process has mapped."""

    __slots__ = (
        "_broken_brk", "_broken_split", "_broken_unmap", "_bus", "_clock", "_code", "_eager", "_entries", "_faults",
        "_pagecache", "_tables", "_writeback",
    )  # fmt: skip

    def __init__(
        self,
        entries: Entries,
        pagecache: PageCache,
        writeback: Writeback,
        faults: PageFaults,
        code: CodeCache,
        trace: Trace,
        broken: Breakage,
    ) -> None:
        self._entries, self._tables = entries, entries.tables
        self._pagecache, self._writeback, self._faults = pagecache, writeback, faults
        self._code, self._bus, self._clock = code, trace.bus, trace.clock
        self._broken_unmap, self._broken_brk = broken("no-unmap"), broken("no-brk-shrink")
        self._broken_split, self._eager = broken("no-mprotect-split"), broken("eager-mprotect")

    def do_mmap(
        self,
        task: Process,
        address: int,
        length: int,
        prot: int,
        flags: int,
        inode: Inode | None,
        pgoff: int,
        writable_file: bool = True,
        readable_file: bool = True,
        file: File | str | None = None,
    ) -> int:
        """Map anonymous memory or a file (``pgoff`` in pages); the linear address.

        With a ``file`` and no inode it maps /dev/zero: private it is anonymous, shared it is memory of its own.
        Raises KernelError as mmap(2) does, in Linux's order.
        """
        mm = _mm(task)
        if not length:
            raise KernelError(EINVAL)
        if flags & MAP_FIXED_NOREPLACE:
            flags |= MAP_FIXED
        length = page_align(length)
        if length > TASK_SIZE:
            raise KernelError(ENOMEM)
        if pgoff + length // PAGE_SIZE >= 1 << 32:
            raise KernelError(EOVERFLOW)
        if len(mm.vmas) > MAX_MAP_COUNT:
            raise KernelError(ENOMEM)
        start = _place(mm, address, length, flags)
        if flags & MAP_FIXED_NOREPLACE and mm.vmas.overlapping(start, start + length):
            raise KernelError(EEXIST)
        vm_flags = _vm_flags(flags, prot, inode, file is not None, writable_file, readable_file)
        if start < MMAP_MIN_ADDR:
            raise KernelError(EPERM)
        if flags & MAP_SHARED and inode is None:
            inode, pgoff, file = SharedMemory(length), 0, None
        prot &= PROT_ALL
        if mm.read_implies_exec and prot & PROT_READ:
            prot |= PROT_EXEC
        replaced = 0
        if flags & MAP_FIXED and _is_limited(task):
            replaced = sum(
                min(vma.end, start + length) - max(vma.start, start)
                for vma in mm.vmas.overlapping(start, start + length)
            )
        if not may_expand(task.limits, mm.vmas, (length - replaced) // PAGE_SIZE, prot, vm_flags):
            raise KernelError(ENOMEM)
        if flags & MAP_FIXED:
            self.do_munmap(task, start, length)
        pgoff = pgoff if inode is not None or file is not None else 0
        mm.vmas.insert(Vma(start, start + length, prot, vm_flags, inode, pgoff, file))
        self.report(task, "mmap", start, start + length, prot)
        if flags & MAP_LOCKED or flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE:
            self.populate(task.cpu, mm, start, start + length)
        return start

    def populate(self, cpu: KernelCpu, mm: Mm, start: int, end: int) -> bool:
        """Bring the pages of [start, end) in, as their first use would; False at the first that does not come."""
        for vma in mm.vmas.overlapping(start, end):
            write = bool(vma.prot & PROT_WRITE) and not vma.shared
            for page in range(max(start, vma.start), min(end, vma.end), PAGE_SIZE):
                if not self.touch(cpu, mm, vma, page, write):
                    return False
        return True

    def touch(self, cpu: KernelCpu, mm: Mm, vma: Vma, page: int, write: bool) -> bool:
        """Bring one page in, to be written too if ``write``; False where that is not possible."""
        if not vma.prot or (write and not vma.prot & PROT_WRITE):
            return False
        entry = self._tables.lookup_pte(mm.pgd, page)
        if is_present(entry) and (not write or entry & RW):
            return True
        try:
            return self._faults.handle_mm_fault(cpu, mm, vma, page, write) not in UNRESOLVED
        except OutOfMemory:
            return False

    def do_munmap(self, task: Process, address: int, length: int) -> None:
        """Unmap whole pages; holes are no error.  Raises KernelError: EINVAL, ENOMEM for one area too many."""
        mm = _mm(task)
        length = page_align(length)
        if address & ~PAGE_MASK or not length or address + length > TASK_SIZE:
            raise KernelError(EINVAL)
        inside = mm.vmas.find_exact(address)
        if inside is not None and inside.start < address and address + length < inside.end:
            check_map_count(mm, 1)
        removed = mm.vmas.remove(address, address + length)
        for vma in removed:
            self.report(task, "munmap", vma.start, vma.end, vma.prot)
        if removed and not self._broken_unmap:
            self.zap_areas(task.cpu, mm, removed)
        removed.clear()
        self._pagecache.reap()

    def zap_areas(self, cpu: KernelCpu, mm: Mm, areas: Iterable[Vma]) -> None:
        """Clear the entries of areas or pieces of them, flush, write dirty file pages out, then release the frames.

        In this order (MM 18): up to the flush another CPU may store through the old translation.
        """
        gather = self._entries.gather(cpu, mm)
        dirty: list[DirtyPage] = []
        for vma in areas:
            to_file = vma.inode if writes_back(vma) else None
            for linear, ptep, _ in self._tables.user_places(mm.pgd, vma.start, vma.end):
                entry = gather.remove(linear, ptep)
                if to_file is not None and entry & D and is_mapped(entry):
                    dirty.append((to_file, vma.page_of(linear)))
        gather.flush()
        try:
            self._writeback.write_out(dirty)
        except KernelError:
            pass
        finally:
            gather.finish()

    def do_mprotect(self, task: Process, address: int, length: int, prot: int) -> None:
        """Change the protection of whole pages.

        A private page that becomes writable stays read-only in its entry: the next write decides by do_wp_page.
        Raises KernelError: EINVAL, ENOMEM at a hole, EACCES; areas before that have been changed.
        """
        mm = _mm(task)
        grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
        prot &= ~grows
        if grows == PROT_GROWSDOWN | PROT_GROWSUP or address & ~PAGE_MASK:
            raise KernelError(EINVAL)
        if not length:
            return
        length = page_align(length)
        if address + length > 1 << 32:
            raise KernelError(ENOMEM)
        prot = _wanted_prot(mm, prot)
        end = min(address + length, TASK_SIZE)
        address = _first_to_protect(mm, address, end, grows)
        stop, error = _protectable(mm, address, end, prot)
        if stop > address:
            check_map_count(mm, _splits(mm, address, stop))
            self._change_protection(task, mm, address, stop, prot)
        if error or address + length > TASK_SIZE:
            raise KernelError(error or ENOMEM)

    def _change_protection(self, task: Process, mm: Mm, address: int, stop: int, prot: int) -> None:
        changed = mm.vmas.protect(address, stop, prot, split=not self._broken_split)
        gather = self._entries.gather(task.cpu, mm)
        for start, finish, _ in changed:
            for linear, ptep, _ in self._tables.user_places(mm.pgd, start, finish):
                gather.protect(linear, ptep, lambda entry: self._protected(entry, prot))
            self.report(task, "mprotect", start, finish, prot)
        gather.finish()

    def _protected(self, entry: int, prot: int) -> int:
        """The entry with an area's new protection; PROT_NONE keeps the frame and clears P."""
        tables = self._tables
        executable = bool(prot & PROT_EXEC)
        entry &= ~NX if tables.nx else ~0
        if not executable:
            entry |= tables.nx
        entry = access(entry) if prot & PROT_ALL else no_access(entry)
        if not prot & PROT_WRITE:
            entry &= ~RW
        elif self._eager:
            entry |= RW
        self._code.mapped(tables.pte_pfn(entry), executable, bool(entry & RW))
        return entry

    def do_brk(self, task: Process, address: int) -> int:
        """Move the break; where it is afterwards, which is unchanged when it cannot move."""
        mm = _mm(task)
        vmas = mm.vmas
        if address < vmas.start_brk or address > TASK_SIZE:
            return vmas.brk
        prot = PROT_READ | PROT_WRITE | (PROT_EXEC if mm.read_implies_exec else 0)
        pages = (page_align(address) - page_align(vmas.brk)) // PAGE_SIZE
        if address - vmas.start_brk + mm.end_data - mm.start_data > task.limits[RLIMIT_DATA][0]:
            return vmas.brk
        if pages > 0 and (not may_expand(task.limits, mm.vmas, pages, prot, VM_MAYWRITE) or len(vmas) > MAX_MAP_COUNT):
            return vmas.brk
        removed = vmas.set_brk(address, prot)
        if removed and not self._broken_brk:
            self.zap_areas(task.cpu, mm, removed)
        return vmas.brk

    def report(self, task: Process, what: str, start: int, end: int, prot: int) -> None:
        """One event for a change of areas."""
        if self._bus.active and self._bus.wants(MapChange):
            self._bus.emit(MapChange(self._clock.now, task.cpu.index, task.pid, what, start, end, prot))


def _is_limited(task: Process) -> bool:
    return (task.limits[RLIMIT_AS][0], task.limits[RLIMIT_DATA][0]) != (RLIM_INFINITY, RLIM_INFINITY)


def _place(mm: Mm, address: int, length: int, flags: int) -> int:
    """Where a mapping goes.  Raises KernelError (ENOMEM, EINVAL)."""
    if not flags & MAP_FIXED:
        found = mm.vmas.get_unmapped_area(length, address & PAGE_MASK)
        if found is None:
            raise KernelError(ENOMEM)
        return found
    if address > TASK_SIZE - length:
        raise KernelError(ENOMEM)
    if address & ~PAGE_MASK:
        raise KernelError(EINVAL)
    return address


def _vm_flags(flags: int, prot: int, inode: Inode | None, zero: bool, writable: bool, readable: bool) -> int:
    """The area's flags, checked in Linux's order; ``zero``: it has a file even without an inode.

    Raises KernelError (EINVAL, EACCES, EOPNOTSUPP, and as ``_check_file``).
    """
    kind = flags & MAP_TYPE
    of_file = zero or inode is not None
    if kind not in (MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE) or (kind == MAP_SHARED_VALIDATE and not of_file):
        raise KernelError(EINVAL)
    if kind == MAP_SHARED_VALIDATE and flags & ~_KNOWN_FLAGS:
        raise KernelError(EOPNOTSUPP)
    shared = kind != MAP_PRIVATE
    found = VM_MAYWRITE | sum(bit for flag, bit in _KEPT_FLAGS if flags & flag)
    if shared:
        found |= VM_SHARED
        if not writable:
            if prot & PROT_WRITE:
                raise KernelError(EACCES)
            found &= ~VM_MAYWRITE
    if of_file:
        _check_file(inode, readable)
    if flags & MAP_GROWSDOWN and (shared or of_file):
        raise KernelError(EINVAL)
    return found


def _check_file(inode: Inode | None, readable: bool) -> None:
    """It can be mapped at all; None is /dev/zero.  Raises KernelError (EACCES, ENODEV, EIO)."""
    if not readable:
        raise KernelError(EACCES)
    if inode is not None and (inode.kind != S_IFREG or not inode.mappable):
        raise KernelError(inode.unmappable if inode.kind == S_IFREG else ENODEV)


def check_map_count(mm: Mm, more: int) -> None:
    """Raises KernelError(ENOMEM) when so many more areas are too many."""
    if len(mm.vmas) + more > MAX_MAP_COUNT:
        raise KernelError(ENOMEM)


def _mm(task: Process) -> Mm:
    assert task.mm is not None
    return task.mm


def _wanted_prot(mm: Mm, prot: int) -> int:
    """What mprotect's bits ask for.  Raises KernelError(EINVAL) for unknown ones."""
    if prot & ~(PROT_ALL | PROT_SEM):
        raise KernelError(EINVAL)
    prot &= PROT_ALL
    return prot | PROT_EXEC if mm.read_implies_exec and prot & PROT_READ else prot


def _first_to_protect(mm: Mm, address: int, end: int, grows: int) -> int:
    """Where mprotect begins: with PROT_GROWSDOWN at the start of a stack.  Raises KernelError(ENOMEM, EINVAL)."""
    first = mm.vmas.find(address)
    if first is None or address >= TASK_SIZE:
        raise KernelError(ENOMEM)
    if grows == PROT_GROWSDOWN:
        if first.start >= end:
            raise KernelError(ENOMEM)
        if not first.flags & VM_GROWSDOWN:
            raise KernelError(EINVAL)
        return first.start
    if grows:
        raise KernelError(EINVAL if first.start <= address else ENOMEM)
    return address


def _protectable(mm: Mm, address: int, end: int, prot: int) -> tuple[int, int]:
    """How far areas in a row may have the protection, and the errno with which mprotect then fails, 0 for none."""
    gap = mm.vmas.first_gap(address, end)
    stop = end if gap is None else gap
    for vma in mm.vmas.overlapping(address, stop):
        if prot & PROT_WRITE and vma.shared and not vma.flags & VM_MAYWRITE:
            return max(address, vma.start), EACCES
    return stop, 0 if gap is None else ENOMEM


def _splits(mm: Mm, address: int, stop: int) -> int:
    """Areas more that there are when both ends have become boundaries."""
    return sum(
        vma.start < edge < vma.end for edge in (address, stop) for vma in mm.vmas.overlapping(edge, edge + PAGE_SIZE)
    )
