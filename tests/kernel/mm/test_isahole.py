"""14 to 16 MB: four outcomes, and clearing the range of what lies in it (MM 5, post 002)."""

from __future__ import annotations

import pytest

from sandbox.kernel.abi.errno import EBUSY, ENODEV, ENOMEM, KernelError
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.mm.gfp import DMA
from sandbox.kernel.mm.isahole import HOLE, IsaHole
from sandbox.kernel.mm.page import PG_DIRTY
from sandbox.kernel.process.fork import dup_mm
from sandbox.machine.devices.isacard import HOLE_ADDRESS, SIGNATURE
from sandbox.x86.errors import ConfigurationError
from tests.conftest import MakeSession
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace
from tests.kernel.mm.machines import boot, load, store

CARD = int.from_bytes(SIGNATURE[:4], "little")
AT_HOLE = PAGE_OFFSET + HOLE_ADDRESS


def test_outcomes(paging: str) -> None:
    """a: plain RAM; b: the card, 2 MB less; c: the card, the RAM moved up; d: the card, and nobody knows."""
    frames = {}
    for outcome in ("ram", "card", "remap", "conflict"):
        kernel = boot(paging, ram=32 << 20, policies={"isa_hole": outcome})
        assert (load(kernel, AT_HOLE) == CARD) == (outcome != "ram")
        frames[outcome] = kernel.pgdat.total_frames
        owned = any(zone.has(pfn) for zone in kernel.pgdat.zones for pfn in HOLE)
        assert owned == (outcome in ("ram", "conflict"))
    assert frames["ram"] == frames["conflict"]
    assert frames["card"] == frames["ram"] - 512
    assert frames["remap"] in range(frames["ram"] - 8, frames["ram"]), "but for a longer mem_map"


def test_in_a_conflict_frames_are_the_cards(paging: str) -> None:
    """d: the kernel hands the card's bytes out; the first keep what the card says, whatever is stored there."""
    kernel = boot(paging, ram=32 << 20, policies={"isa_hole": "conflict"})
    for zone in kernel.pgdat.zones:
        zone.open_all()
    taken = {kernel.page_alloc.alloc_pages(1) for _ in range(kernel.pgdat.free_frames)}
    assert set(HOLE) <= taken
    store(kernel, AT_HOLE, 0x12345678)
    assert load(kernel, AT_HOLE) == CARD
    assert kernel.memory.is_ram(HOLE_ADDRESS), "RAM is behind it, and only the machine's map says so"


def test_a_conflict_needs_ram_there() -> None:
    with pytest.raises(ConfigurationError, match="do not reach 16 MB"):
        boot(ram=15 << 20, policies={"isa_hole": "conflict"})


def test_bad_things(session: MakeSession) -> None:
    """d: a program that needs those 2 MB passes where they are RAM; where a card answers, it or the kernel fails."""
    pages = 3800
    text = (
        f"_start: map_pages {pages}\n mov edi, eax\n mov ecx, {pages}\n1: mov [edi], edi\n add edi, 4096\n loop 1b\n"
        f" sys fork\n sub edi, {pages}*4096\n mov ecx, {pages}\n2: cmp [edi], edi\n jne 3f\n add edi, 4096\n loop 2b\n"
        " pass\n3: sys exit, 9"
    )
    assert session(text, ram=17 << 20).finish().passed
    result = session(text, ram=17 << 20, policies={"isa_hole": "conflict"}).finish()
    assert not result.passed
    assert "where the kernel believes in RAM" in result.detail
    cured = session(text, ram=17 << 20, policies={"isa_hole": "conflict"}, boot="memexclude=14m-16m").finish()
    assert (cured.signal, cured.error) == (9, ""), "no memory, as it should be"


def test_clearing_needs_a_card() -> None:
    with pytest.raises(KernelError) as caught:
        boot(ram=32 << 20).isahole.open_hole()
    assert caught.value.errno == ENODEV


def test_clearing_an_empty_range() -> None:
    kernel = boot(ram=32 << 20, devices=("holecard",))
    total, free = kernel.pgdat.total_frames, kernel.pgdat.free_frames
    assert kernel.isahole.open_hole() == 0
    assert load(kernel, AT_HOLE) == CARD
    assert (kernel.pgdat.total_frames, kernel.pgdat.free_frames) == (total - 512, free - 512)
    assert all(kernel.memmap.reserved(pfn) for pfn in HOLE)
    taken = {kernel.page_alloc.alloc_pages(1) for _ in range(kernel.pgdat.free_frames)}
    assert not taken & set(HOLE)
    assert not kernel.memory.is_ram(HOLE_ADDRESS)


def test_what_the_kernel_holds_cannot_move() -> None:
    kernel = boot(ram=16 << 20, devices=("holecard",))
    free = kernel.pgdat.free_frames
    held = []
    while True:
        pfn = kernel.page_alloc.alloc_pages(1 | DMA)
        held.append(pfn)
        if pfn in HOLE:
            break
    with pytest.raises(KernelError) as caught:
        kernel.isahole.open_hole()
    assert caught.value.errno == EBUSY
    for pfn in held:
        kernel.page_alloc.free_pages(pfn)
    assert kernel.pgdat.free_frames == free, "nothing has changed"
    assert kernel.isahole.open_hole() == 0


def test_pages_move_with_their_contents(space: MakeSpace, paging: str) -> None:
    made = space(ram=16 << 20, paging=paging, devices=("holecard",))
    pages = 3560
    made.map(pages)
    where = {}
    for number in range(pages):
        at = AREA + number * PAGE
        assert made.write(at, at ^ 0xABCD)
        where[at] = made.frame(at)
    inside = [at for at, pfn in where.items() if pfn in HOLE]
    assert inside
    kernel = made.kernel
    kernel.mmap.do_munmap(made.task, AREA, 1000 * PAGE)
    for number in range(1000):
        assert where.pop(AREA + number * PAGE) not in HOLE
    free, total = kernel.pgdat.free_frames, kernel.pgdat.total_frames
    cached = [pfn for pfn in kernel.pagecache.frames() if pfn in HOLE]
    assert kernel.isahole.open_hole() == len(inside) + len(cached)
    assert kernel.pgdat.total_frames == total - 512
    assert kernel.pgdat.free_frames == free - 512, "as many are held as before"
    for at, pfn in where.items():
        assert made.read(at) == at ^ 0xABCD
        assert made.count(at) == 1
        assert (made.frame(at) == pfn) == (pfn not in HOLE)


@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize("apart", [0, 96])
def test_nobody_keeps_a_translation_of_what_moved(space: MakeSpace, paging: str, cpus: int, apart: int) -> None:
    """SDM 3A 4.10.4.2: a CPU may use the old translation until it is invalidated, and would store into the old frame.

    The range is cleared and no card is plugged in, for that makes the engine drop every translation.  ``apart`` pages
    from the area's start: the engine's TLB is indexed by page number, and the copies through the direct map may push an
    entry out by chance.
    """
    made = space(ram=16 << 20, paging=paging, cpus=cpus)
    kernel = made.kernel
    made.map(9 + apart)
    area = AREA + apart * PAGE
    made.write(area + 8 * PAGE, 1)  # the page table, which is the kernel's, outside of the range
    held = []
    while (pfn := kernel.page_alloc.alloc_pages(1)) not in HOLE:
        held.append(pfn)
    kernel.page_alloc.free_pages(pfn)
    for cpu in kernel.cpus:
        kernel.mmu.switch_mm(cpu, made.mm)
    pages = [area + number * PAGE for number in range(8)]
    assert all(made.write(at, at) for at in pages)
    assert all(made.frame(at) in HOLE for at in pages)
    for frame in held:
        kernel.page_alloc.free_pages(frame)
    for cpu in kernel.cpus:
        assert [made.read(at, cpu) for at in pages] == pages
        assert all(made.write(at, at, cpu) for at in pages), "every CPU has the translation"
    assert kernel.isahole.clear_range(HOLE) >= 8
    for number, cpu in enumerate(kernel.cpus):
        for at in pages:
            assert made.read(at, cpu) == at + number
            assert made.write(at, at + number + 1, cpu)
            assert kernel.peek.peek(made.mm, at, 4) == (at + number + 1).to_bytes(4, "little")


def test_what_moved_is_as_read_only_as_it_was(space: MakeSpace, paging: str) -> None:
    """Pages that fork shares are closed to stores; the entry for the copy must be too, or the sharing is lost."""
    made = space(ram=16 << 20, paging=paging)
    kernel = made.kernel
    made.map(2)
    made.write(AREA + PAGE, 1)
    held = []
    while (pfn := kernel.page_alloc.alloc_pages(1)) not in HOLE:
        held.append(pfn)
    kernel.page_alloc.free_pages(pfn)
    made.write(AREA, 7)
    assert made.frame(AREA) in HOLE
    for frame in held:
        kernel.page_alloc.free_pages(frame)
    child = dup_mm(kernel, made.cpu, made.mm)
    assert kernel.isahole.clear_range(HOLE) >= 1
    assert made.frame(AREA) not in HOLE
    assert made.count(AREA) == 2
    assert made.write(AREA, 8)
    assert kernel.peek.peek(child, AREA, 4) == (7).to_bytes(4, "little"), "the child has what it had"


def test_no_room(space: MakeSpace) -> None:
    made = space(ram=16 << 20, devices=("holecard",))
    made.map(4096)
    number = 0
    while made.kernel.pgdat.low_free > made.kernel.page_alloc.min_free:
        if not made.write(AREA + number * PAGE, number):
            break
        number += 1
    with pytest.raises(KernelError) as caught:
        made.kernel.isahole.open_hole()
    assert caught.value.errno in (ENOMEM, EBUSY)
    for each in range(0, number, 50):
        assert made.read(AREA + each * PAGE) == each


def test_file_pages_move_too(session: MakeSession) -> None:
    """A program's own code is moved in the page cache, and then run."""
    made = session("_start: pass", ram=16 << 20, devices=("holecard",))
    made.load()
    kernel = made.kernel
    held = []
    while kernel.pgdat.free_frames > 300:
        held.append(kernel.page_alloc.alloc_pages(1))
    inode = made._inode
    pfn = kernel.pagecache.find_page(inode, 0)
    assert pfn in HOLE
    before = kernel.peek.peek(None, PAGE_OFFSET + (pfn << 12), PAGE)
    for frame in held:
        kernel.page_alloc.free_pages(frame)
    kernel.memmap.set_flags(pfn, kernel.memmap.flags(pfn) | PG_DIRTY)
    assert kernel.isahole.open_hole() >= 1
    new = kernel.pagecache.find_page(inode, 0)
    assert new not in HOLE
    assert kernel.memmap.flags(new) & PG_DIRTY, "what is still to be written is in the copy"
    kernel.memmap.set_flags(new, kernel.memmap.flags(new) & ~PG_DIRTY)
    assert kernel.peek.peek(None, PAGE_OFFSET + (new << 12), PAGE) == before
    assert kernel.isahole.clear_range(range(new, new + 1)) == 1, "the copy is the cache's as the page was"
    assert kernel.pagecache.find_page(inode, 0) != new
    assert kernel.peek.peek(None, PAGE_OFFSET + (kernel.pagecache.find_page(inode, 0) << 12), PAGE) == before
    assert made.finish().passed


def test_a_page_that_somebody_holds_besides(space: MakeSpace, paging: str) -> None:
    """MM 10: a page with more references than entries is pinned (a device's, a copy under way), and must stay."""
    made = space(ram=16 << 20, paging=paging)
    kernel = made.kernel
    made.map(2)
    assert made.write(AREA, 7) and made.write(AREA + PAGE, 8)
    window, pinned = range(made.frame(AREA), made.frame(AREA) + 1), made.frame(AREA)
    kernel.memmap.get_page(pinned)
    free = kernel.pgdat.free_frames
    with pytest.raises(KernelError) as caught:
        kernel.isahole.clear_range(window)
    assert caught.value.errno == EBUSY
    assert made.frame(AREA) == pinned and kernel.pgdat.free_frames == free and made.read(AREA) == 7
    kernel.page_alloc.put_page(pinned)
    assert kernel.isahole.clear_range(window) == 1
    assert made.frame(AREA) != pinned and made.read(AREA) == 7 and made.write(AREA, 9)


def test_reclaim_does_not_take_the_page_that_is_moved(session: MakeSession) -> None:
    """The frame for the copy is found by reclaim; the page itself is clean and cached, and must not be it."""
    made = session("_start: pass", ram=16 << 20, devices=("holecard",))
    made.load()
    kernel = made.kernel
    held = []
    while kernel.pgdat.free_frames > kernel.page_alloc.min_free + 120:
        held.append(kernel.page_alloc.alloc_pages(1))
    inode = made._inode
    pfn = kernel.pagecache.find_page(inode, 0)
    assert pfn in HOLE
    outside = [frame for frame in held if frame not in HOLE]
    for frame in held:
        if frame in HOLE:
            kernel.page_alloc.free_pages(frame)
    with pytest.raises(KernelError) as caught:
        kernel.isahole.open_hole()
    assert caught.value.errno == ENOMEM
    assert kernel.pagecache.find_page(inode, 0) == pfn
    assert kernel.memmap.count(pfn) == 1
    for frame in outside:
        kernel.page_alloc.free_pages(frame)
    assert kernel.isahole.open_hole() >= 1


def test_a_page_that_reclaim_frees_meanwhile(session: MakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frame for one page's copy may come from another cached page of the range, which then has no owner."""
    made = session("_start: pass\n .space 6*4096", ram=16 << 20, devices=("holecard",))
    made.load()
    kernel, inode = made.kernel, made._inode
    held = []
    while kernel.pgdat.free_frames > 300:
        held.append(kernel.page_alloc.alloc_pages(1))
    pages = {kernel.pagecache.find_page(inode, index) for index in range(6)}
    assert len(pages & set(HOLE)) == 6
    for frame in held:
        kernel.page_alloc.free_pages(frame)
    freed = []

    def shrink_first(hole: IsaHole, window: range) -> int:
        freed.append(kernel.pagecache.shrink_mmap(1))
        return frame_outside(hole, window)

    frame_outside = IsaHole._frame_outside
    monkeypatch.setattr(IsaHole, "_frame_outside", shrink_first)
    free, total = kernel.pgdat.free_frames, kernel.pgdat.total_frames
    moved = kernel.isahole.open_hole()
    assert sum(freed) >= 2
    assert moved == len(freed)
    assert kernel.pgdat.total_frames == total - 512
    assert kernel.pgdat.free_frames == free - 512 + sum(freed)
    assert made.finish().passed


@pytest.mark.parametrize(("ram", "hole"), [(15, "ram"), (32, "card"), (32, "conflict"), (32, "remap")])
def test_a_card_behind_ram_needs_ram(ram: int, hole: str) -> None:
    with pytest.raises(ConfigurationError, match="it waits behind RAM"):
        boot(ram=ram << 20, devices=("holecard",), policies={"isa_hole": hole})
