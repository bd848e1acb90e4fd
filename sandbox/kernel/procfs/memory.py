"""Files of /proc about the pages of one task: smaps, smaps_rollup, pagemap, clear_refs (proc(5), pagemap.rst)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sandbox.kernel.abi.errno import EINVAL, KernelError
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.entries import Scope
from sandbox.kernel.mm.page import PG_CACHE
from sandbox.kernel.mm.pte import Kind, decode, is_mapped
from sandbox.kernel.mm.vma import (
    PROT_WRITE,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_GROWSDOWN,
    VM_IO,
    VM_LOCKED,
    VM_MAYWRITE,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_RAND_READ,
    VM_SEQ_READ,
    VM_WIPEONFORK,
    Vma,
)
from sandbox.kernel.procfs.nodes import Text
from sandbox.kernel.task.task import Task
from sandbox.x86.paging import PAGE_SIZE, A, D

SUMS = (
    "Rss", "Pss", "Pss_Dirty", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty", "Referenced",
    "Anonymous",
)  # fmt: skip
ALWAYS_ZERO = (
    "KSM", "LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb", "Swap",
    "SwapPss",
)  # fmt: skip
FLAGS = (
    (VM_GROWSDOWN, "gd"), (VM_LOCKED, "lo"), (VM_IO, "io"), (VM_SEQ_READ, "sr"), (VM_RAND_READ, "rr"),
    (VM_DONTCOPY, "dc"), (VM_NORESERVE, "nr"), (VM_WIPEONFORK, "wf"), (VM_DONTDUMP, "dd"), (VM_NOHUGEPAGE, "nh"),
)  # fmt: skip
"""In the order of show_smap_vma_flags; ``ac`` comes before ``nr``."""
PRESENT, SWAPPED, FILE, EXCLUSIVE = 1 << 63, 1 << 62, 1 << 61, 1 << 56
ENTRY_BYTES = 8
CLEAR_REFS_LAST = 5


def _rows(values: dict[str, int]) -> str:
    return "".join(f"{name + ':':16}{value:8} kB\n" for name, value in values.items())


def _pages(kernel: Kernel, pgd: int, vma: Vma) -> Iterator[tuple[int, int, int]]:
    """(entry, frame, in how many places it is mapped) of the area's pages; the shared page of zeros is none."""
    for _, entry in kernel.tables.user_ptes(pgd, vma.start, vma.end):
        pfn = kernel.tables.pte_pfn(entry) if is_mapped(entry) else kernel.zero_page
        if pfn != kernel.zero_page and kernel.memmap.has_page(pfn):
            yield entry, pfn, max(1, kernel.memmap.count(pfn) - _is_cached(kernel, pfn))


def _is_cached(kernel: Kernel, pfn: int) -> bool:
    return bool(kernel.memmap.flags(pfn) & PG_CACHE)


def _swapped(kernel: Kernel, pgd: int, vma: Vma) -> int:
    """Bytes of the area that are on a swap device."""
    entries = kernel.tables.user_ptes(pgd, vma.start, vma.end)
    return PAGE_SIZE * sum(1 for _, entry in entries if decode(entry).kind is Kind.SWAPPED)


def _sums(kernel: Kernel, pgd: int, vma: Vma) -> dict[str, int]:
    """Bytes by kind."""
    found = dict.fromkeys(SUMS, 0)
    for entry, pfn, places in _pages(kernel, pgd, vma):
        dirty = bool(entry & D) or not _is_cached(kernel, pfn)
        share = PAGE_SIZE // places
        found["Rss"] += PAGE_SIZE
        found["Pss"] += share
        found["Pss_Dirty"] += share if dirty else 0
        found[f"{'Shared' if places > 1 else 'Private'}_{'Dirty' if dirty else 'Clean'}"] += PAGE_SIZE
        found["Referenced"] += PAGE_SIZE if entry & A else 0
        found["Anonymous"] += 0 if _is_cached(kernel, pfn) else PAGE_SIZE
    return found


def vm_flags(vma: Vma) -> str:
    """Two letters each."""
    may_write = not vma.shared or vma.flags & VM_MAYWRITE
    words = [word for bit, word in ((1, "rd"), (2, "wr"), (4, "ex")) if vma.prot & bit]
    words += ["sh"] * vma.shared + ["mr"] + (["mw"] if may_write else []) + ["me"] + ["ms"] * vma.shared
    known = [(bit, word) for bit, word in FLAGS if vma.flags & bit]
    words += [word for bit, word in known if bit < VM_NORESERVE]
    if not vma.shared and not vma.flags & VM_NORESERVE and (vma.prot & PROT_WRITE or vma.anon_vma is not None):
        words.append("ac")
    return " ".join(words + [word for bit, word in known if bit >= VM_NORESERVE])


def smaps_of(kernel: Kernel, pgd: int, vma: Vma) -> str:
    """What smaps says below the area's line of maps."""
    sums = {name: value // 1024 for name, value in _sums(kernel, pgd, vma).items()}
    kilobytes = PAGE_SIZE // 1024
    sizes = {"Size": vma.size // 1024, "KernelPageSize": kilobytes, "MMUPageSize": kilobytes}
    locked = sums["Pss"] if vma.flags & VM_LOCKED else 0
    swapped = _swapped(kernel, pgd, vma) // 1024
    rows = _rows({**sizes, **sums, **dict.fromkeys(ALWAYS_ZERO, 0), "Swap": swapped, "Locked": locked})
    return f"{rows}{'THPeligible:':16}{0:8}\nVmFlags: {vm_flags(vma)} \n"


def smaps_rollup(kernel: Kernel, task: Task, column: int) -> bytes:
    """The sums of all areas."""
    mm = task.mm
    vmas = list(mm.vmas) if mm is not None else []
    if mm is None or not vmas:
        return b""
    total = dict.fromkeys(("Rss", "Pss", "Pss_Dirty", "Pss_Anon", "Pss_File", "Pss_Shmem", *SUMS[3:]), 0)
    locked = 0
    for vma in vmas:
        sums = _sums(kernel, mm.pgd, vma)
        for name, value in sums.items():
            total[name] += value
        total["Pss_File" if vma.inode is not None else "Pss_Anon"] += sums["Pss"]
        locked += sums["Pss"] if vma.flags & VM_LOCKED else 0
    head = f"{vmas[0].start:08x}-{vmas[-1].end:08x} ---p 00000000 00:00 0 ".ljust(column) + "[rollup]\n"
    swapped = sum(_swapped(kernel, mm.pgd, vma) for vma in vmas)
    rows = {**total, **dict.fromkeys(ALWAYS_ZERO, 0), "Swap": swapped, "Locked": locked}
    return (head + _rows({name: value // 1024 for name, value in rows.items()})).encode()


class PageMap(Text):
    """A word of 64 bits for each page of the address space: where it is."""

    kernel: Kernel
    task: Task

    def read_at(self, position: int, count: int) -> bytes:
        """Raises KernelError(EINVAL) where it is not whole words."""
        if position % ENTRY_BYTES or count % ENTRY_BYTES:
            raise KernelError(EINVAL)
        start = position // ENTRY_BYTES * PAGE_SIZE
        end = min(start + count // ENTRY_BYTES * PAGE_SIZE, TASK_SIZE)
        mm = self.task.mm
        if mm is None or start >= end:
            return b""
        words = [0] * ((end - start) // PAGE_SIZE)
        for linear, entry in self.kernel.tables.user_ptes(mm.pgd, start, end):
            words[(linear - start) // PAGE_SIZE] = self._word(entry)
        return struct.pack(f"<{len(words)}Q", *words)

    def _word(self, entry: int) -> int:
        if not is_mapped(entry):
            found = decode(entry)  # Documentation/admin-guide/mm/pagemap.rst: type in bits 0-4, offset in bits 5-54
            return SWAPPED | found.where << 5 | found.device
        kernel, pfn = self.kernel, self.kernel.tables.pte_pfn(entry)
        if pfn == kernel.zero_page or not kernel.memmap.has_page(pfn):
            return PRESENT | pfn
        cached = _is_cached(kernel, pfn)
        alone = kernel.memmap.count(pfn) - cached <= 1
        return PRESENT | pfn | (FILE if cached else 0) | (EXCLUSIVE if alone else 0)


def clear_refs(kernel: Kernel, task: Task, data: bytes) -> None:
    """Forget which pages were used.  Raises KernelError(EINVAL) for anything but 1 to 5.

    1 to 3 are all pages, anonymous ones and those of files; soft-dirty bits (4) are not kept, nor peaks (5).
    """
    text = data.strip(b" \n\0")
    if not text.isdigit() or not 1 <= int(text) <= CLEAR_REFS_LAST:
        raise KernelError(EINVAL)
    kind, mm = int(text), task.mm
    if mm is None or kind > 3:
        return
    gather = kernel.entries.gather(kernel.this_cpu, mm, Scope.SPACE)
    for vma in mm.vmas:
        if kind == 1 or (kind == 2) == (vma.inode is None):
            for linear, ptep, _ in kernel.tables.user_places(mm.pgd, vma.start, vma.end):
                gather.protect(linear, ptep, lambda entry: entry & ~A)
    gather.finish()
