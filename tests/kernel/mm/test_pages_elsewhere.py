"""Entries that name a swap slot, or a page that is moved, are never lost and never misread.

The keeper here is a stand-in for a swap device that keeps each page in the frame where it was, as a swap cache does
(MM 11: fork is ``swap_duplicate``, zap is ``swap_free``, an access ``do_swap_page``).  Random histories of areas, forks
and exits run over it; the books of ``test_accounting`` and each program's words must agree after every step.
"""

from __future__ import annotations

import ast
import struct
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test

import sandbox.kernel
from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.pte import Kind, decode, is_mapped, swap_entry
from sandbox.kernel.mm.swapops import LostEntry
from sandbox.kernel.procfs.memory import smaps_of
from sandbox.kernel.procfs.task import _pagemap
from sandbox.kernel.syscalls.madvise import MADV_DONTNEED, sys_madvise
from sandbox.kernel.syscalls.memory import sys_mincore
from sandbox.x86.paging import US, A, P
from tests.kernel.mm.conftest import AREA as PLACE
from tests.kernel.mm.conftest import MakeSpace
from tests.kernel.mm.test_accounting import AREA, PAGE, PAGES, History, elf, lengths, pages, prots

__all__ = ["elf"]
MAYMOVE_FIXED = 3
DEVICE = 2


class Keeper:
    """Slots by entry, with how many entries name each; and entries that are being moved, by their place."""

    def __init__(self, history: Elsewhere) -> None:
        self.kernel, self.users = history.kernel, Counter[int]()
        self.frames: dict[int, int] = {}
        self.moving: dict[int, int] = {}
        self.calls = Counter[str]()

    def swap_duplicate(self, entry: int) -> None:
        assert self.users[entry]
        self.users[entry] += 1
        self.calls["duplicate"] += 1

    def swap_free(self, entry: int) -> None:
        assert self.users[entry]
        self.users[entry] -= 1
        self.calls["free"] += 1
        if not self.users[entry]:
            del self.users[entry]
            self.kernel.page_alloc.put_page(self.frames.pop(entry))

    def do_swap_page(self, cpu: KernelCpu, mm: Mm, linear: int, prot: int, ptep: int, entry: int) -> None:
        """Read-only: who writes has it copied or made his own, as any shared page."""
        tables, pfn = self.kernel.tables, self.frames[entry]
        rights = P | US | A | (0 if prot & 4 else tables.nx)
        self.kernel.memmap.get_page(pfn)
        assert self.kernel.entries.install(mm, ptep, tables.pfn_pte(pfn, rights), entry)
        self.swap_free(entry)
        self.calls["in"] += 1

    def migration_wait(self, ptep: int, entry: int) -> bool:
        """The move ends, in the same frame."""
        before = self.moving.pop(ptep)
        self.kernel.entries.resume(ptep, before, self.kernel.tables.pte_pfn(before))
        self.calls["wait"] += 1
        return True


class Elsewhere(History):
    """A history in which pages are taken away behind the program's back, through the door."""

    totals: ClassVar = Counter[str]()

    @initialize()
    def start(self) -> None:
        self.keeper, self.slots = Keeper(self), 0
        super().start()
        self.kernel.entries.swap = self.keeper

    def resident(self, which: int, page: int) -> tuple[Mm, int, int] | None:
        """A private page of an area, with its place and its frame; a new one where nothing is."""
        mm = self.spaces[self.use(which)]
        if mm.vmas.find_exact(AREA + page * PAGE) is None:
            self.map(which, page, 1, 3, False)
            self.write(which, page, page + 1, 0)
        entry = self.kernel.tables.lookup_pte(mm.pgd, AREA + page * PAGE)
        pfn = self.kernel.tables.pte_pfn(entry)
        if decode(entry).kind is not Kind.PRESENT or self.kernel.zero_page == pfn:
            return None
        return mm, self.kernel.tables.pte_alloc(mm.pgd, AREA + page * PAGE), pfn

    @rule(which=st.integers(0, 9), page=pages)
    def swap_out(self, which: int, page: int) -> None:
        found = self.resident(which, page)
        if found is None or self.kernel.memmap.count(found[2]) != 1:
            return
        mm, ptep, pfn = found
        self.slots += 1
        entry = swap_entry(DEVICE, self.slots, self.paging == "pae")
        gather = self.kernel.entries.gather(self.task.cpu, mm)
        gather.remove(AREA + page * PAGE, ptep, drop=False)
        gather.finish()
        self.keeper.users[entry], self.keeper.frames[entry] = 1, pfn
        assert self.kernel.entries.install(mm, ptep, entry)
        self.keeper.calls["out"] += 1

    @rule(which=st.integers(0, 9), cpu=st.integers(0, 1), write=st.booleans())
    def go_there(self, which: int, cpu: int, write: bool) -> None:
        """An access to each page that is somewhere else, as far as its area allows one."""
        mm = self.spaces[self.use(which)]
        for linear, entry in list(self.kernel.tables.user_ptes(mm.pgd, AREA, AREA + PAGES * PAGE)):
            if entry and not is_mapped(entry):
                page = (linear - AREA) // PAGE
                if write:
                    self.write(which, page, page + 1, cpu)
                else:
                    self.read(which, page, cpu)

    @rule(which=st.integers(0, 9), page=pages)
    def suspend(self, which: int, page: int) -> None:
        found = self.resident(which, page)
        if found is not None:
            mm, ptep, _ = found
            self.keeper.moving[ptep] = self.kernel.entries.suspend(self.task.cpu, mm, AREA + page * PAGE, ptep)

    @rule(which=st.integers(0, 9), page=pages, count=lengths, prot=prots, file=st.booleans())
    def map(self, which: int, page: int, count: int, prot: int, file: bool) -> None:
        super().map(which, page, count, prot, file)
        if file and not self.inode.size:
            self.models[which % len(self.spaces)].update(dict.fromkeys(range(page, page + count), -1))

    @rule(which=st.integers(0, 9), page=pages, count=lengths)
    def dontneed(self, which: int, page: int, count: int) -> None:
        number = self.use(which)
        with suppress(KernelError):
            sys_madvise(self.kernel, self.task, AREA + page * PAGE, count * PAGE, MADV_DONTNEED)
            for each in range(page, page + count):
                vma = self.task.mm.vmas.find_exact(AREA + each * PAGE)
                if vma is not None:
                    index = vma.page_of(AREA + each * PAGE) if vma.inode is not None else 0
                    beyond = -1 if index * PAGE >= self.inode.size else 0x03020100
                    self.models[number][each] = 0 if vma.inode is None else beyond

    @rule(which=st.integers(0, 9), page=pages, to=pages)
    def mremap(self, which: int, page: int, to: int) -> None:
        number = self.use(which)
        vma = self.task.mm.vmas.find_exact(AREA + page * PAGE)
        if vma is None or page == to:
            return
        self.kernel.mremap.do_mremap(
            self.task, AREA + page * PAGE, PAGE, PAGE, MAYMOVE_FIXED, AREA + to * PAGE
        )  # fmt: skip
        self.models[number][to] = self.models[number].pop(page, 0)

    @precondition(lambda self: self.inode.size)
    @rule()
    def truncate(self) -> None:
        """Every page of the file's areas goes, private copies too; an access is a bus error from then on."""
        self.kernel.writeback.vmtruncate(self.inode, 0)
        for mm, model in zip(self.spaces, self.models, strict=True):
            for page in range(PAGES):
                vma = mm.vmas.find_exact(AREA + page * PAGE)
                if vma is not None and vma.inode is self.inode:
                    model[page] = -1

    # -- the books

    def references(self) -> Counter[int]:
        found = super().references()
        found.update(self.keeper.frames.values())
        found.update(self.kernel.tables.pte_pfn(entry) for entry in self.keeper.moving.values())
        return found

    @invariant()
    def resident_is_what_tables_say(self) -> None:
        for mm in self.spaces:
            entries = [entry for _, entry in self.kernel.tables.user_ptes(mm.pgd, 0, PAGE_OFFSET)]
            frames = [self.kernel.tables.pte_pfn(entry) for entry in entries if is_mapped(entry)]
            moving = sum(decode(entry).kind is Kind.MIGRATING for entry in entries)
            assert mm.rss == moving + sum(pfn != self.kernel.zero_page for pfn in frames)

    @invariant()
    def slots_are_what_entries_name(self) -> None:
        if not self.spaces:
            return
        found = Counter[int]()
        for mm in self.spaces:
            for _, entry in self.kernel.tables.user_ptes(mm.pgd, 0, PAGE_OFFSET):
                if decode(entry).kind is Kind.SWAPPED:
                    found[entry] += 1
        assert found == self.keeper.users

    def teardown(self) -> None:
        if self.spaces:
            Elsewhere.totals.update(self.keeper.calls)
        super().teardown()
        assert not self.keeper.users
        assert not self.keeper.moving


@pytest.mark.parametrize("paging", ["pae", "legacy"])
def test_histories_with_pages_elsewhere(elf: bytes, paging: str) -> None:
    Elsewhere.totals.clear()
    kind = type("Elsewhere", (Elsewhere,), {"elf": elf, "paging": paging})
    run_state_machine_as_test(
        kind,
        settings=settings(
            max_examples=15, stateful_step_count=60, deadline=None, derandomize=True, phases=(Phase.generate,)
        ),
    )
    assert set(Elsewhere.totals) >= {"out", "in", "duplicate", "free", "wait"}, Elsewhere.totals


def test_without_swap_a_slot_is_refused(space: MakeSpace, paging: str) -> None:
    """Each way out of an address space, and the access itself, says that nobody knows of the slot."""
    made = space(paging=paging)
    made.map(1)
    ptep = made.kernel.tables.pte_alloc(made.mm.pgd, PLACE)
    rss = made.mm.rss
    assert made.kernel.entries.install(made.mm, ptep, swap_entry(DEVICE, 7, paging == "pae"))
    assert made.mm.rss == rss
    with pytest.raises(LostEntry, match="an entry is swapped, and nothing here has made such a one"):
        made.read(PLACE)
    with pytest.raises(LostEntry, match="an entry is swapped"):
        made.kernel.mmap.do_munmap(made.task, PLACE, PAGE)


def test_what_is_read_of_them(space: MakeSpace, paging: str) -> None:
    """pagemap.rst: bit 62 and type and offset of the slot; mincore(2): not resident; smaps: Swap and no Rss."""
    made = space(paging=paging)
    kernel, task = made.kernel, made.task
    made.map(2)
    made.write(PLACE + PAGE, 1)
    ptep = kernel.tables.pte_alloc(made.mm.pgd, PLACE)
    kernel.entries.install(made.mm, ptep, swap_entry(DEVICE, 0x123, paging == "pae"))
    pagemap = _pagemap(kernel, task, 0).read_at(PLACE // PAGE * 8, 16)
    first, second = struct.unpack("<2Q", pagemap)
    assert first == 1 << 62 | 0x123 << 5 | DEVICE
    assert second >> 62 == 2
    sys_mincore(kernel, task, PLACE, 2 * PAGE, PLACE + PAGE)
    assert made.read(PLACE + PAGE) & 0xFFFF == 0x0100
    vma = made.mm.vmas.find_exact(PLACE)
    assert vma is not None
    smaps = dict(line.split(":", 1) for line in smaps_of(kernel, made.mm.pgd, vma).splitlines())
    assert (smaps["Swap"].split(), smaps["Rss"].split()) == (["4", "kB"], ["4", "kB"])


ROOT = Path(sandbox.kernel.__file__).parent
TABLES = {"pte.py", "pgtable.py", "pgtable_2level.py", "pgtable_3level.py", "table_dump.py"}
"""Levels above the last one, which have no kinds; who says what a kind is; who shows what CPUs read, of ROMs too."""


def test_nobody_else_tests_bits_for_what_an_entry_is() -> None:
    """Outside of pte.py no ``entry & P``, no ``entry & MAPPED``: another kind of entry would be taken for none."""
    found = []
    for path in (*ROOT.rglob("*.py"), *(ROOT.parent / "debug").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
                names = {each.id for each in (node.left, node.right) if isinstance(each, ast.Name)}
                if names & {"P", "MAPPED", "PROTNONE"} and path.name not in TABLES:
                    found.append(f"{path.name}:{node.lineno}")
    assert found == []
