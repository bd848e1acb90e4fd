"""Random memory histories of several processes; after each step the books are checked against the tables."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import Phase, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sandbox.image.assemble import assemble_source
from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.mmap import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
)
from sandbox.kernel.mm.page import BadPage
from sandbox.kernel.mm.pte import MAPPED, PROTNONE, Kind, decode
from sandbox.kernel.mm.swapops import LostEntry
from sandbox.kernel.mm.vma import PROT_EXEC, PROT_WRITE
from sandbox.kernel.process.fork import dup_mm
from sandbox.runner.run import Session
from sandbox.x86.paging import NX, RW, US, P

PAGE, AREA, PAGES = 4096, 0x50000000 - 8 * 4096, 16
"""The area lies across a boundary of 4 MB (and of 2 MB), so across two tables."""
pages = st.integers(0, PAGES - 1)
lengths = st.integers(1, 6)
prots = st.sampled_from([0, 1, 2, 3, 5, 7])


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("accounting")
    (folder / "p.S").write_text(".globl _start\n_start: jmp _start\n")
    assemble_source(folder / "p.S", folder / "p")
    return (folder / "p").read_bytes()


class History(RuleBasedStateMachine):
    """``model`` is what each address space's words ought to be, for pages that may be read."""

    elf: bytes
    paging: str
    switches: frozenset[str] = frozenset()
    ram = 32 << 20

    def __init__(self) -> None:
        super().__init__()
        config = KernelConfig(ram=self.ram, cpus=2, paging=self.paging, switches=self.switches)
        self.session = Session("t", self.elf, (), config)
        self.kernel = self.session.kernel
        self.task = self.session.load()
        self.spaces: list[Mm] = []
        self.models: list[dict[int, int]] = []
        self.free_before = 0

    @initialize()
    def start(self) -> None:
        assert self.task.mm is not None
        inode = self.kernel.files.add("/data", bytes(range(256)) * 48)
        self.inode = inode
        for index in range(3):
            self.kernel.pagecache.find_page(inode, index)
        self.first_free = self.kernel.pgdat.free_frames
        self.spaces.append(self.task.mm)
        self.models.append({})
        self.use(0)

    def use(self, number: int) -> int:
        """Make an address space the task's and load it on the first CPU."""
        number %= len(self.spaces)
        self.task.mm = self.spaces[number]
        self.kernel.mmu.switch_mm(self.task.cpu, self.task.mm)
        return number

    @rule(which=st.integers(0, 9), page=pages, count=lengths, prot=prots, file=st.booleans())
    def map(self, which: int, page: int, count: int, prot: int, file: bool) -> None:
        number = self.use(which)
        at, size = AREA + page * PAGE, count * PAGE
        flags = MAP_PRIVATE | MAP_FIXED | (0 if file else MAP_ANONYMOUS)
        self.kernel.mmap.do_mmap(self.task, at, size, prot, flags, self.inode if file else None, 0)
        for each in range(page, page + count):
            word = 0
            if file:
                word = 0x03020100 if each - page < 3 else -1
            self.models[number][each] = word

    @rule(which=st.integers(0, 9), page=pages, count=lengths)
    def unmap(self, which: int, page: int, count: int) -> None:
        number = self.use(which)
        self.kernel.mmap.do_munmap(self.task, AREA + page * PAGE, count * PAGE)
        for each in range(page, page + count):
            self.models[number].pop(each, None)

    @rule(which=st.integers(0, 9), page=pages, count=lengths, prot=prots)
    def protect(self, which: int, page: int, count: int, prot: int) -> None:
        self.use(which)
        try:
            self.kernel.mmap.do_mprotect(self.task, AREA + page * PAGE, count * PAGE, prot)
        except KernelError as error:
            assert error.errno == 12

    @rule(which=st.integers(0, 9), page=pages, value=st.integers(1, 0x7FFFFFFF), cpu=st.integers(0, 1))
    def write(self, which: int, page: int, value: int, cpu: int) -> None:
        number = self.use(which)
        cpu = self.kernel.cpus[cpu]
        self.kernel.mmu.switch_mm(cpu, self.task.mm)
        address = AREA + page * PAGE
        vma = self.task.mm.vmas.find(address)
        allowed = vma is not None and vma.start <= address and bool(vma.prot & PROT_WRITE)
        allowed = allowed and self.models[number].get(page) != -1
        left = cpu.call(self.kernel.routines.put_user_4, eax=value, edi=address)
        assert (left == 0) == allowed
        if allowed:
            self.models[number][page] = value

    @rule(which=st.integers(0, 9), page=pages, cpu=st.integers(0, 1))
    def read(self, which: int, page: int, cpu: int) -> None:
        number = self.use(which)
        cpu = self.kernel.cpus[cpu]
        self.kernel.mmu.switch_mm(cpu, self.task.mm)
        address = AREA + page * PAGE
        vma = self.task.mm.vmas.find(address)
        readable = vma is not None and vma.start <= address and vma.prot
        word = self.models[number].get(page, 0) if readable else 0
        got = cpu.call(self.kernel.routines.get_user_4, edi=address)
        assert got == (0 if word == -1 else word)

    @rule(which=st.integers(0, 9), size=st.integers(0, 40000))
    def brk(self, which: int, size: int) -> None:
        self.use(which)
        start = self.task.mm.vmas.start_brk
        assert self.kernel.mmap.do_brk(self.task, start + size) == start + size
        if size >= 4:
            assert not self.task.cpu.call(self.kernel.routines.put_user_4, eax=1, edi=start + size - 4)

    @precondition(lambda self: len(self.spaces) < 4)
    @rule(which=st.integers(0, 9))
    def fork(self, which: int) -> None:
        number = self.use(which)
        self.spaces.append(dup_mm(self.kernel, self.task.cpu, self.spaces[number]))
        self.models.append(dict(self.models[number]))

    @precondition(lambda self: len(self.spaces) > 1)
    @rule(which=st.integers(0, 9))
    def exit(self, which: int) -> None:
        number = self.use(which)
        assume(number)
        mm, _ = self.spaces.pop(number), self.models.pop(number)
        self.kernel.mmu.mmput(self.task.cpu, mm)
        self.use(0)

    @rule()
    def shrink_cache(self) -> None:
        self.kernel.pagecache.shrink_mmap(2)

    # -- the books

    def references(self) -> Counter[int]:
        """References by frame, from a scan of every table and the page cache; tables count once."""
        kernel, found = self.kernel, Counter[int]()
        tables = kernel.tables
        for mm in self.spaces:
            found[mm.pgd] += 1
            directory = [mm.pgd]
            if self.paging == "pae":
                directory = [kernel.memory.read_quad((mm.pgd << 12) + 8 * top) >> 12 for top in range(3)]
                found.update(directory)
            for table in directory:
                step = 8 if self.paging == "pae" else 4
                entries = 512 if self.paging == "pae" else PAGE_OFFSET >> 22
                for cpu in range(entries):
                    entry = int.from_bytes(kernel.memory.read((table << 12) + step * cpu, step), "little")
                    if entry & P:
                        found[tables.pte_pfn(entry)] += 1
            for _, entry in tables.user_ptes(mm.pgd, 0, PAGE_OFFSET):
                if entry & MAPPED:
                    found[tables.pte_pfn(entry)] += 1
        found.update(kernel.pagecache.frames())
        found.update(self.task.stack_frames)
        del found[kernel.zero_page]
        return found

    @invariant()
    def counts_are_references(self) -> None:
        if not self.spaces:
            return
        kernel, found = self.kernel, self.references()
        for pfn, references in found.items():
            assert kernel.memmap.count(pfn) == references, f"frame {pfn:#x}"
        free = set(kernel.pgdat.free_list())
        assert not free & found.keys()
        assert len(found) == kernel.pgdat.total_frames - kernel.pgdat.free_frames

    @invariant()
    def resident_is_what_tables_say(self) -> None:
        """rss: entries that name a frame, the zero page aside."""
        kernel = self.kernel
        for mm in self.spaces:
            found = [entry for _, entry in kernel.tables.user_ptes(mm.pgd, 0, PAGE_OFFSET) if entry & MAPPED]
            assert mm.rss == sum(kernel.tables.pte_pfn(entry) != kernel.zero_page for entry in found)

    @invariant()
    def entries_lie_in_areas(self) -> None:
        for mm in self.spaces:
            mm.vmas.check()
            for linear, entry in self.kernel.tables.user_ptes(mm.pgd, 0, PAGE_OFFSET):
                vma = mm.vmas.find(linear)
                assert vma is not None and vma.start <= linear, f"{linear:#x}"
                if decode(entry).kind in (Kind.SWAPPED, Kind.MIGRATING):
                    continue
                if not entry & P:
                    assert entry & PROTNONE
                    assert not vma.prot
                    continue
                assert entry & US
                assert vma.prot
                assert vma.prot & PROT_WRITE or not entry & RW
                if self.paging == "pae":
                    assert bool(entry & NX) != bool(vma.prot & PROT_EXEC)
                if entry & RW:
                    assert self.kernel.memmap.count(self.kernel.tables.pte_pfn(entry)) == 1

    def teardown(self) -> None:
        """Everything comes back: what is left out is the page cache and the task's kernel stack."""
        if self.spaces:
            kernel = self.kernel
            for mm in self.spaces:
                kernel.mmu.mmput(self.task.cpu, mm)
            self.spaces.clear()
            kernel.pagecache.shrink_mmap(1000)
            held = kernel.pgdat.total_frames - kernel.pgdat.free_frames
            assert held == len(self.task.stack_frames)
            assert not len(kernel.pagecache)
            assert kernel.highmem.depth == [0, 0]
        self.session.close()


@pytest.mark.parametrize("paging", ["pae", "legacy"])
def test_histories(elf: bytes, paging: str) -> None:
    kind = type("History", (History,), {"elf": elf, "paging": paging})
    run_state_machine_as_test(
        kind, settings=settings(max_examples=12, stateful_step_count=40, deadline=None, derandomize=True)
    )


@pytest.mark.parametrize("switch", ["no-unmap", "no-cow", "no-flush", "no-brk-shrink"])
def test_histories_notice_what_is_broken(elf: bytes, switch: str) -> None:
    kind = type("Broken", (History,), {"elf": elf, "paging": "pae", "switches": frozenset({switch})})
    few = settings(
        max_examples=100, stateful_step_count=40, deadline=None, derandomize=True, phases=(Phase.generate,),
        print_blob=False, report_multiple_bugs=False,
    )  # fmt: skip
    with pytest.raises((AssertionError, BadPage, LostEntry)):
        run_state_machine_as_test(kind, settings=few)
