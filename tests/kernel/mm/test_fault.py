"""Every resolution of a user page fault, seen by the CPU that made it and in the tables and counts left behind."""

from __future__ import annotations

import pytest

from sandbox.kernel.mm.mmap import MAP_FIXED, MAP_PRIVATE
from sandbox.kernel.process.fork import dup_mm
from sandbox.x86.paging import NX, RW, US, D, P
from tests.conftest import Run
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace

FORK = """
_start: mov dword ptr [page], 7
        fork_to child
        expect_exit 8, 1
        expect_at page, 7, 2
        mov dword ptr [page], 9
        expect_at page, 9, 3
        pass
child:  expect_at page, 7, 100
        mov dword ptr [page], 8
        sys exit, [page]
        .bss
        .balign 4096
page:   .skip 4096
"""


def test_read_first_maps_the_zero_page(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    made.map()
    assert made.read(AREA) == 0
    assert made.resolutions == ["zero-page"]
    assert made.frame(AREA) == made.kernel.zero_page
    assert not made.entry(AREA) & RW
    assert made.write(AREA + 8, 5)
    assert made.resolutions == ["demand-zero"]
    assert made.frame(AREA) != made.kernel.zero_page
    assert made.read(AREA + 8) == 5
    assert made.read(AREA) == 0
    assert made.kernel.memory.read(made.kernel.zero_page << 12, PAGE) == bytes(PAGE)


def test_write_first_gets_a_cleared_frame(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging, ram=1 << 30)
    made.map()
    assert made.write(AREA, 5)
    assert made.resolutions == ["demand-zero"]
    entry = made.entry(AREA)
    assert entry & (P | RW | US | D) == P | RW | US | D
    assert bool(entry & NX) == (paging == "pae")
    assert made.count(AREA) == 1
    assert made.frame(AREA) >= made.kernel.layout.direct_frames, "anonymous pages live in highmem first"


def test_nothing_mapped(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    assert not made.write(AREA, 1)
    assert made.resolutions == ["fixup"]
    made.map(prot=0)
    assert not made.write(AREA, 1)
    made.read(AREA)
    assert made.resolutions == ["fixup", "fixup"]
    made.map(prot=1)
    assert not made.write(AREA, 1)
    assert made.read(AREA) == 0
    assert made.resolutions == ["fixup", "zero-page"]


def test_cow_copy_then_reuse(space: MakeSpace, paging: str) -> None:
    """MM 11: two owners copy, the last one keeps."""
    made = space(paging=paging)
    made.map()
    made.write(AREA, 1)
    shared = made.frame(AREA)
    child = dup_mm(made.kernel, made.cpu, made.mm)
    assert made.count(AREA) == 2
    for mm in (made.mm, child):
        assert not made.kernel.tables.lookup_pte(mm.pgd, AREA) & RW
    made.resolutions  # noqa: B018
    assert made.write(AREA, 2)
    assert made.resolutions == ["cow-copy"]
    assert made.frame(AREA) != shared
    assert made.kernel.memmap.count(shared) == 1
    assert int.from_bytes(made.kernel.peek.peek(child, AREA, 4), "little") == 1
    made.kernel.mmu.switch_mm(made.cpu, child)
    assert made.write(AREA, 3)
    assert made.resolutions[-1] in ("cow-reuse",)
    assert made.kernel.tables.pte_pfn(made.kernel.tables.lookup_pte(child.pgd, AREA)) == shared
    made.kernel.mmu.switch_mm(made.cpu, made.mm)
    assert made.read(AREA) == 2
    made.kernel.mmu.mmput(made.cpu, child)
    assert made.count(AREA) == 1


def test_fork_program(run: Run, paging: str) -> None:
    result = run(FORK, paging=paging)
    assert result.passed
    words = [fault.resolution for fault in result.faults]
    assert words.count("cow-reuse") >= 1
    assert "cow-copy" in words


def test_no_cow_is_noticed(run: Run) -> None:
    assert run(FORK, switches=frozenset({"no-cow"})).status == 2


def test_a_read_after_fork_costs_nothing(space: MakeSpace) -> None:
    made = space()
    made.map()
    made.write(AREA, 1)
    dup_mm(made.kernel, made.cpu, made.mm)
    made.resolutions  # noqa: B018
    assert made.read(AREA) == 1
    assert made.resolutions == []


def test_stack_growth(run: Run, paging: str) -> None:
    """An access near ESP grows the stack; one far below is SIGSEGV; ESP itself may be moved far."""
    near = run("_start: mov [esp - 65536], eax\n pass", paging=paging)
    assert near.passed
    assert "stack-growth" in [fault.resolution for fault in near.faults]
    far = run("_start: mov [esp - 1000000], eax\n pass", paging=paging)
    assert far.signal == 11
    moved = run("_start: sub esp, 1000000\n push eax\n pop eax\n pass", paging=paging)
    assert moved.passed


def test_stack_limit(run: Run) -> None:
    deep = "_start: mov ecx, {}\n1: sub esp, 4096\n push eax\n pop eax\n loop 1b\n pass"
    assert run(deep.format(200), stack_limit=1 << 20).passed
    assert run(deep.format(300), stack_limit=1 << 20).signal == 11


FILE = b"A" * PAGE + b"B" * 100


def mapped_file(made, prot: int, pages: int = 3) -> None:
    inode = made.kernel.files.add("/data", FILE)
    made.kernel.mmap.do_mmap(made.task, AREA, pages * PAGE, prot, MAP_PRIVATE | MAP_FIXED, inode, 0)


def test_file_pages(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    mapped_file(made, 3)
    assert made.read(AREA) == 0x41414141
    assert made.resolutions == ["file-read"]
    assert made.count(AREA) == 2, "the cache and the mapping"
    cached = made.frame(AREA)
    assert made.write(AREA, 1)
    assert made.resolutions == ["cow-copy"]
    assert made.kernel.memory.read(cached << 12, 4) == b"AAAA"
    assert made.kernel.memmap.count(cached) == 1


def test_private_write_to_a_file(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    mapped_file(made, 3)
    assert made.write(AREA + PAGE, 1)
    assert made.resolutions == ["file-private"]
    assert made.read(AREA + PAGE + 4) == 0x42424242
    assert made.read(AREA + PAGE + 100) == 0, "zero behind the end of the file"
    assert made.count(AREA + PAGE) == 1


def test_beyond_the_end_of_the_file(run: Run, paging: str) -> None:
    text = """
_start: sys open, "offset name", 0, 0
        mov edi, eax
        sys mmap2, 0, 3*PAGE, PROT_READ, MAP_PRIVATE, edi, 0
        mov cl, [eax + PAGE + 4095]
        mov cl, [eax + 2*PAGE]
        pass
        .data
name:   .asciz "/data"
"""
    result = run(text, paging=paging, files={"/data": FILE})
    assert result.signal == 7
    assert result.faults[-1].resolution == "sigbus"


def test_sharing_a_program_page(run: Run) -> None:
    """A store to .data copies it once; the page cache keeps the file's bytes."""
    result = run("_start: mov eax, [v]\n inc dword ptr [v]\n expect_at v, 42, 1\n pass\n .data\nv: .long 41")
    assert result.passed
    assert [fault.resolution for fault in result.faults if fault.error_code & 16 == 0][-2:] == ["file-read", "cow-copy"]


def test_write_protected_then_writable_again_reuses(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    made.map()
    made.write(AREA, 1)
    frame = made.frame(AREA)
    made.kernel.mmap.do_mprotect(made.task, AREA, PAGE, 1)
    assert not made.write(AREA, 2)
    made.kernel.mmap.do_mprotect(made.task, AREA, PAGE, 3)
    made.resolutions  # noqa: B018
    assert made.write(AREA, 3)
    assert made.resolutions == ["cow-reuse"]
    assert made.frame(AREA) == frame


def test_out_of_memory_leaks_nothing(space: MakeSpace, paging: str) -> None:
    """The last frame goes to the table; the page that then finds none leaves no frame without an owner."""
    made = space(paging=paging, ram=8 << 20)
    kernel = made.kernel
    for spare in range(4):
        held = []
        while kernel.pgdat.free_frames > spare:
            held.append(kernel.pgdat.rmqueue_pcp(True))
        area = AREA + (spare << 24)
        made.map(at=area)
        made.cpu.current = None
        wrote = made.write(area, 1)
        made.cpu.current = made.task
        used = spare - kernel.pgdat.free_frames
        present = bool(made.entry(area) & P)
        assert wrote == present
        assert used <= 2
        assert used == 2 or not present
        for pfn in held:
            kernel.page_alloc.put_page(pfn)


@pytest.mark.parametrize("cpus", [1, 2])
def test_oom_kills_the_asker_and_frees_its_frames(session, cpus: int) -> None:
    text = """
_start: fork_to child
        expect_killed SIGKILL, 1
        pass
child:  map_pages 16384
1:      mov [eax], eax
        add eax, PAGE
        jmp 1b
"""
    made = session(text, ram=8 << 20, cpus=cpus)
    result = made.finish()
    assert result.passed, result.headline()
    kernel = made.kernel
    assert kernel.pgdat.free_frames >= kernel.pgdat.total_frames - len(kernel.pagecache) - 16
