"""Pages of another address space: brought in, their sharing broken, mapped by kmap, one at a time."""

from __future__ import annotations

import pytest

from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.abi.flags import O_RDWR
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.fs.ramfs import RamFs
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.mmap import MAP_ANONYMOUS, MAP_FIXED, MAP_SHARED
from sandbox.kernel.mm.pte import Kind, decode
from sandbox.kernel.mm.vma import VM_IO
from sandbox.kernel.process.fork import dup_mm
from sandbox.kernel.vfs.file import File
from sandbox.x86.paging import RW, D
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace, Space

HIGH = {"ram": 32 << 20, "boot": "highmem=16m"}


def poke(made: Space, mm: Mm, address: int, data: bytes, force: bool = True) -> int:
    made.cpu.store(made.task.scratch, data)
    size = len(data)
    return made.kernel.remote.access_remote_vm(made.task, mm, address, made.task.scratch, size, write=True, force=force)


def peek(made: Space, mm: Mm, address: int, size: int = 4, force: bool = True) -> bytes:
    """What can be read, by way of the scratch page."""
    access = made.kernel.remote.access_remote_vm
    done = access(made.task, mm, address, made.task.scratch, size, write=False, force=force)
    return made.kernel.peek.peek(None, made.task.scratch, done)


def test_a_poke_breaks_sharing_for_the_other_process_only(space: MakeSpace, paging: str) -> None:
    """Row 25 of the posts' systems: COW broken for the debugger, never for others."""
    made = space(paging=paging, **HIGH)
    made.map()
    made.write(AREA, 1)
    child, shared = dup_mm(made.kernel, made.cpu, made.mm), made.frame(AREA)
    assert poke(made, child, AREA, b"\x02\0\0\0") == 4
    assert made.read(AREA) == 1
    assert peek(made, child, AREA) == b"\x02\0\0\0"
    assert (made.frame(AREA), made.count(AREA)) == (shared, 1)


def test_each_page_is_mapped_once_by_kmap(space: MakeSpace, paging: str) -> None:
    """MM 13: from 2.4 on, get_user_pages and one kmap a page; a page that is in the pool already is a hit."""
    made = space(paging=paging, **HIGH)
    made.map(3)
    for page in range(3):
        made.write(AREA + page * PAGE, page)
    child, counters = dup_mm(made.kernel, made.cpu, made.mm), made.kernel.kmap.counters
    assert peek(made, child, AREA + PAGE - 2, PAGE + 4)[:6] == b"\0\0\x01\0\0\0"
    assert (counters.misses, counters.hits) == (3, 0)
    peek(made, child, AREA + PAGE)
    assert (counters.misses, counters.hits) == (3, 1)
    assert poke(made, child, AREA, b"x") == 1
    assert (counters.misses, counters.hits) == (4, 1), "the copy is another page"
    assert not made.kernel.kmap.held([made.task.pid])
    assert all(count < 2 for count in made.kernel.kmap.counts)


def test_what_the_program_may_not_do(space: MakeSpace, paging: str) -> None:
    """FOLL_FORCE (mm/gup.c): private areas of any protection; the entry stays as closed as the area."""
    made = space(paging=paging, **HIGH)
    made.map(prot=0)
    assert peek(made, made.mm, AREA, force=False) == b""
    assert poke(made, made.mm, AREA, b"four", force=False) == 0
    assert peek(made, made.mm, AREA) == bytes(4)
    assert poke(made, made.mm, AREA, b"four") == 4
    assert decode(made.entry(AREA)).kind is Kind.PROT_NONE
    assert not made.write(AREA, 1)
    assert peek(made, made.mm, AREA) == b"four"
    made.map(prot=1)
    assert poke(made, made.mm, AREA, b"five") == 4
    assert not made.entry(AREA) & RW
    assert made.read(AREA) == int.from_bytes(b"five", "little")
    frame = made.frame(AREA)
    assert poke(made, made.mm, AREA, b"5") == 1
    assert made.frame(AREA) == frame, "who has the page alone needs no other"


def test_shared_areas_are_not_forced_and_devices_not_reached(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging, **HIGH)
    flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED
    made.kernel.mmap.do_mmap(made.task, AREA, PAGE, 1, flags, None, 0)
    assert poke(made, made.mm, AREA, b"no") == 0
    assert peek(made, made.mm, AREA) == bytes(4)
    made.map(at=AREA + PAGE)
    vma = made.mm.vmas.find(AREA + PAGE)
    assert vma is not None
    vma.flags |= VM_IO
    assert peek(made, made.mm, AREA + PAGE) == b""
    with pytest.raises(KernelError):
        made.kernel.remote.get_user_page(made.task, made.mm, AREA + PAGE, write=False, force=True)


def test_a_page_that_cannot_be_had_ends_it(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging, **HIGH)
    made.map()
    assert len(peek(made, made.mm, AREA + PAGE - 3, 8)) == 3
    assert peek(made, made.mm, 0xFFFFF000) == b""
    assert made.mm.lock.readers == 0


def test_an_address_space_that_is_gone(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging, **HIGH)
    made.map()
    child = dup_mm(made.kernel, made.cpu, made.mm)
    made.kernel.mmu.mmput(made.cpu, child)
    assert peek(made, child, AREA) == b""


def test_a_store_marks_the_page_dirty(space: MakeSpace, paging: str) -> None:
    """The CPU sets D in the entry that it stores through, which is kmap's; the process's own is set by hand."""
    made = space(paging=paging, **HIGH)
    flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED
    made.kernel.mmap.do_mmap(made.task, AREA, PAGE, 3, flags, None, 0)
    made.read(AREA)
    assert not made.entry(AREA) & D
    assert poke(made, made.mm, AREA, b"dirt") == 4
    assert made.entry(AREA) & D


@pytest.mark.parametrize("pool", ["kmap", "kva"])
def test_a_cow_copy_maps_one_page(space: MakeSpace, paging: str, pool: str) -> None:
    """Issue 13: the source through the process's own mapping, only the destination mapped."""
    made = space(paging=paging, policies={"high_pages": pool}, **HIGH)
    made.map()
    made.write(AREA, 1)
    dup_mm(made.kernel, made.cpu, made.mm)
    counters = (made.kernel.kmap if pool == "kmap" else made.kernel.kva).counters
    before = counters.hits + counters.misses
    made.write(AREA, 2)
    assert made.resolutions[-1] == "cow-copy"
    assert counters.hits + counters.misses == before + 1


def test_a_process_that_ends_while_its_page_is_mapped(space: MakeSpace, paging: str) -> None:
    """kmap may sleep, and the process end meanwhile: the address space and the page stay until the copy is done."""
    made = space(paging=paging, **HIGH)
    made.map()
    made.write(AREA, 0x64616564)
    child = dup_mm(made.kernel, made.cpu, made.mm)
    kmap = made.kernel.kmap.map

    def map_while_it_ends(cpu: KernelCpu, pfn: int) -> int:
        made.kernel.mmu.mmput(cpu, child)
        return kmap(cpu, pfn)

    made.kernel.kmap.map = map_while_it_ends  # type: ignore[method-assign]
    assert peek(made, child, AREA) == b"dead"
    assert child.users == 0
    assert child not in made.kernel.mmlist
    assert made.count(AREA) == 1


def test_reclaim_between_the_fault_and_the_store(space: MakeSpace, paging: str) -> None:
    """A page of a shared file that lost its entry meanwhile is written to the file all the same."""
    made = space(paging=paging, **HIGH)
    inode = RamFs().file(bytes(PAGE), name="/f")
    flags = MAP_SHARED | MAP_FIXED
    made.kernel.mmap.do_mmap(made.task, AREA, PAGE, 3, flags, inode, 0, file=File(inode, O_RDWR))
    made.read(AREA)
    kmap = made.kernel.kmap.map

    def map_while_it_is_unmapped(cpu: KernelCpu, pfn: int) -> int:
        gather = made.kernel.entries.gather(cpu, made.mm)
        for linear, ptep, _ in made.kernel.tables.user_places(made.mm.pgd, AREA, AREA + PAGE):
            gather.remove(linear, ptep)
        gather.finish()
        return kmap(cpu, pfn)

    made.kernel.kmap.map = map_while_it_is_unmapped  # type: ignore[method-assign]
    assert poke(made, made.mm, AREA, b"kept") == 4
    assert inode.read_block(0)[:4] == b"kept"
