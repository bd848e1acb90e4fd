"""Frames above 4 GB, used for everything that highmem is used for: programs, files, the kernel's addresses, a card.

The machine has 6 GB, of which 2 lie below 4 GB (the PC's map in ``machine/memory.py``); what is above is opened first,
so that no request has to be bent.  ``lower`` is the frame that an address of 32 bits would name: it must stay as it is.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from sandbox.cli import main
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.events import PageAlloc
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.fs.namespace import FileSystem
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.main import start_kernel
from sandbox.kernel.mm.gfp import DMA, GFP_HIGHUSER, GFP_KERNEL, HIGHMEM
from sandbox.kernel.mm.mmap import MAP_FIXED, MAP_PRIVATE, MAP_SHARED
from sandbox.kernel.mm.page import PG_HIGHMEM
from sandbox.kernel.mm.pgdat import DMA_END
from sandbox.kernel.mm.pte import Kind, decode
from sandbox.kernel.process.fork import dup_mm
from sandbox.kernel.procfs.task import _pagemap
from sandbox.kernel.syscalls.madvise import MADV_DONTNEED, sys_madvise
from sandbox.kernel.task.task import Task
from sandbox.machine.devices.card import STATUS_DONE, STATUS_REFUSED, Card
from sandbox.runner.machine import build_machine
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace, Space
from tests.kernel.mm.machines import boot, high, load, physical, store, used
from tests.kernel.mm.test_accounting import elf
from tests.kernel.mm.test_msync import Disk
from tests.kernel.mm.test_pages_elsewhere import Elsewhere
from tests.machine.devices.test_card import command

__all__ = ["elf"]
GB = 1 << 30
LINE = 4 * GB // PAGE
WAYS = ("atomic", "kva", "kmap", "local", "task")
WORD = 0x600D600D


def word(kernel: Kernel, pfn: int, offset: int = 0) -> int:
    """A word of a frame, by its physical address."""
    return int.from_bytes(kernel.memory.read(pfn * PAGE + offset, 4), "little")


def above(made: Space, linear: int) -> int:
    """The frame of a program's page, which lies above 4 GB; the one that 32 bits would name has nothing of it."""
    pfn = made.frame(linear)
    assert pfn >= LINE and made.kernel.memmap.flags(pfn) & PG_HIGHMEM
    assert word(made.kernel, pfn - LINE) != word(made.kernel, pfn)
    return pfn


def test_demand_zero(space: MakeSpace) -> None:
    made = space(ram=6 * GB)
    made.map(2)
    left = made.kernel.page_alloc.alloc_page(GFP_HIGHUSER)
    window = made.kernel.highmem.kmap_atomic(made.cpu, left)
    made.cpu.store(window, b"\xee" * PAGE)
    made.kernel.highmem.kunmap_atomic(made.cpu, window)
    made.kernel.page_alloc.put_page(left)
    assert made.write(AREA + 4, WORD) and made.frame(AREA) == left >= LINE
    assert made.kernel.memory.read(left * PAGE, PAGE) == bytes(4) + WORD.to_bytes(4, "little") + bytes(PAGE - 8)


@pytest.mark.parametrize("way", WAYS)
def test_cow_from_highmem_to_highmem(space: MakeSpace, way: str) -> None:
    """All ways to reach the copy; source and copy lie above 4 GB."""
    made = space(ram=6 * GB, policies={"high_pages": way})
    made.map(1)
    for offset in range(0, PAGE, 4):
        assert made.write(AREA + offset, WORD + offset)
    before = above(made, AREA)
    child = dup_mm(made.kernel, made.cpu, made.mm)
    assert made.write(AREA, 1)
    after = above(made, AREA)
    assert made.resolutions[-1] == "cow-copy" and after != before
    words = struct.unpack("<1024I", made.kernel.memory.read(after * PAGE, PAGE))
    assert words == (1, *(WORD + offset for offset in range(4, PAGE, 4))) and word(made.kernel, before) == WORD
    made.kernel.mmu.mmput(made.cpu, child)


def file_page(made: Space, disk: Disk, index: int) -> int:
    pfn = made.kernel.pagecache.find_page(disk, index)
    assert pfn >= LINE
    return pfn


@pytest.mark.parametrize("way", ["atomic", "kva", "kmap"])
def test_a_file_is_read_mapped_and_written_back(space: MakeSpace, way: str) -> None:
    made, disk = space(ram=6 * GB, policies={"high_pages": way}), Disk()
    disk.blocks[:2] = [b"file" * 1024, b"next" * 1024]
    made.kernel.mmap.do_mmap(made.task, AREA, 2 * PAGE, 3, MAP_SHARED | MAP_FIXED, disk, 0)
    assert made.read(AREA) == int.from_bytes(b"file", "little")
    assert above(made, AREA) == file_page(made, disk, 0)
    assert made.write(AREA + PAGE, WORD) and above(made, AREA + PAGE) == file_page(made, disk, 1)
    made.kernel.writeback.sync_inode(disk)
    assert (disk.writes, disk.word(1), disk.blocks[1][4:]) == ([1], WORD, b"next" * 1023)


def test_a_private_page_of_a_file_is_copied(space: MakeSpace) -> None:
    made, disk = space(ram=6 * GB), Disk()
    disk.blocks[0] = b"file" * 1024
    made.kernel.mmap.do_mmap(made.task, AREA, PAGE, 3, MAP_PRIVATE | MAP_FIXED, disk, 0)
    assert made.write(AREA, WORD) and above(made, AREA) != file_page(made, disk, 0)
    assert made.kernel.memory.read(above(made, AREA) * PAGE + 4, 8) == b"filefile"


def requests(kernel: Kernel) -> list[PageAlloc]:
    seen: list[PageAlloc] = []
    kernel.bus.subscribe(seen.append, PageAlloc)
    return seen


@pytest.mark.parametrize("image", ["cow-fork", "file-private", "pipe-bulk", "bss-tail", "fork-tree"])
def test_images_use_nothing_of_highmem_below_4_gb(image: str) -> None:
    from sandbox.image.build import IMAGES
    from sandbox.runner.run import Session
    from sandbox.runner.target import resolve

    target = resolve(IMAGES / image)
    config = target.config(ram=6 * GB, sanitize=frozenset({"tlb"}))
    with Session(target.name, target.data, target.arguments, config) as session:
        seen = requests(session.kernel)
        result = session.finish()
    assert result.status == 0 and result.sanitizer == []
    given = [each for each in seen if each.what == "alloc"]
    assert {each.pfn >= LINE for each in given if each.gfp & HIGHMEM} == {True}
    assert all(each.pfn * PAGE < 800 << 20 for each in given if not each.gfp & HIGHMEM)


def test_vmalloc() -> None:
    kernel = boot(ram=6 * GB)
    area = kernel.vmalloc.vmalloc(3 * PAGE)
    for number in range(3):
        store(kernel, area + number * PAGE, WORD + number)
        at = physical(kernel, area + number * PAGE)
        assert at is not None and at >= 4 * GB and word(kernel, at // PAGE) == WORD + number
        assert word(kernel, at // PAGE - LINE) != WORD + number


@pytest.mark.parametrize("pool", ["kva", "kmap"])
@pytest.mark.parametrize("cpus", [1, 2])
def test_pools(pool: str, cpus: int) -> None:
    kernel = boot(ram=6 * GB, cpus=cpus, boot="kva=8k pkmap=2")
    frames = high(kernel, 5)
    assert min(frames) >= LINE
    mapper = getattr(kernel, pool)
    for pfn in (*frames, *frames[::-1]):
        assert used(kernel, mapper, pfn, cpu=pfn % cpus) >= kernel.layout.direct.end


@pytest.mark.parametrize("kind", ["stack", "slots", "heap"])
def test_windows(kind: str) -> None:
    kernel = boot(ram=6 * GB, policies={"kmap_atomic": kind})
    pfn = high(kernel)[0]
    window = kernel.highmem.kmap_atomic(kernel.this_cpu, pfn)
    assert physical(kernel, window) == pfn * PAGE and load(kernel, window) == pfn


def test_the_last_frame_of_36_bits() -> None:
    """62 GB of RAM end where the 36 address lines do that PAE began with; all but the last frames are in use."""
    kernel = boot(ram=62 * GB)
    last = (64 * GB >> 12) - 1
    zone = kernel.pgdat.high
    assert zone.has(last) and not zone.has(last + 1) and not kernel.memmap.has_page(last + 1)
    zone.unopened = [(last - 31, 32)]
    pfn = max(kernel.page_alloc.alloc_page(GFP_HIGHUSER) for _ in range(32))
    assert pfn == last
    window = kernel.highmem.kmap_atomic(kernel.this_cpu, last)
    store(kernel, window + PAGE - 4, WORD)
    assert word(kernel, last, PAGE - 4) == WORD


# -- a card ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "reach"), [("card", 16 << 20), ("pcicard", 4 * GB)])
def test_a_card_is_refused_what_its_lines_do_not_reach(name: str, reach: int) -> None:
    """24 lines on ISA, 32 on PCI; a page of GFP_DMA, or of lowmem, is within reach, and a page above never is."""
    made = KernelConfig(ram=6 * GB, devices=(name,))
    machine = build_machine(made)
    kernel = start_kernel(machine, made, FileSystem()).kernel
    card = next(device for _, device in machine.board.windows if type(device) is Card)
    top, low = kernel.page_alloc.alloc_page(GFP_HIGHUSER), kernel.page_alloc.alloc_page(GFP_KERNEL)
    dma = kernel.page_alloc.alloc_pages(GFP_KERNEL | DMA)
    for pfn, taken in ((top, False), (low, low * PAGE < reach), (dma, True)):
        status = command(card, 1, pfn * PAGE, PAGE, WORD)
        assert status == STATUS_DONE | (0 if taken else STATUS_REFUSED)
        assert (word(kernel, pfn) == WORD) == taken
    assert dma < DMA_END and word(kernel, top - LINE) != WORD


def test_no_request_for_a_device_is_given_a_frame_above() -> None:
    """The lowmem rule: what is asked for without HIGHMEM has an address in the direct map, until nothing is left."""
    kernel = boot(ram=6 * GB, direct_map=100 << 20)
    given = []
    with pytest.raises(OutOfMemory):
        while True:
            given.append(kernel.page_alloc.alloc_pages(GFP_KERNEL))
    assert len(given) > 1000 and max(given) < kernel.layout.direct_frames
    assert kernel.pgdat.zone_free(kernel.pgdat.high) == kernel.pgdat.high.total


# -- what looks at frames, and what moves them ------------------------------------------------------------------------


def test_pagemap_tells_the_frame(space: MakeSpace) -> None:
    """pagemap.rst: bits 0 to 54 are the frame's number, 63 says present."""
    made = space(ram=6 * GB)
    made.map(1)
    made.write(AREA, WORD)
    task: Task = made.task
    (entry,) = struct.unpack("<Q", _pagemap(made.kernel, task, 0).read_at(AREA // PAGE * 8, 8))
    assert entry >> 63 and entry & (1 << 55) - 1 == above(made, AREA)


def test_a_page_above_is_moved(space: MakeSpace) -> None:
    """Its entry says MIGRATING with the number of all its bits meanwhile."""
    made = space(ram=6 * GB)
    made.map(1)
    made.write(AREA, WORD)
    pfn, door = above(made, AREA), made.kernel.entries
    ptep = made.kernel.tables.pte_alloc(made.mm.pgd, AREA)
    entry = door.suspend(made.cpu, made.mm, AREA, ptep)
    moving = decode(made.entry(AREA))
    assert (moving.kind, moving.where) == (Kind.MIGRATING, pfn)
    new = made.kernel.page_alloc.alloc_page(GFP_HIGHUSER)
    made.kernel.highmem.copy_highpage(made.cpu, new, pfn)
    door.resume(ptep, entry, new)
    assert made.frame(AREA) == new >= LINE and made.read(AREA) == WORD


def test_histories_with_pages_elsewhere(elf: bytes) -> None:
    """Swap hooks, forks, exits: the books and the words agree, on frames above 4 GB."""
    kind = type("Above", (Elsewhere,), {"elf": elf, "paging": "pae", "ram": 6 * GB})
    run_state_machine_as_test(
        kind,
        settings=settings(
            max_examples=4, stateful_step_count=40, deadline=None, derandomize=True, phases=(Phase.generate,)
        ),
    )


def test_dontneed_gives_it_back(space: MakeSpace) -> None:
    made = space(ram=6 * GB)
    made.map(1)
    made.write(AREA, WORD)
    pfn = above(made, AREA)
    sys_madvise(made.kernel, made.task, AREA, PAGE, MADV_DONTNEED)
    assert made.kernel.memmap.count(pfn) == 0 and pfn in set(made.kernel.pgdat.free_list())
    assert made.read(AREA) == 0


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    def call(*words: str) -> str:
        assert main([*words, "--ram", "6G"]) == 0
        return capsys.readouterr().out

    yield call


def test_walk_and_frames_show_all_bits(shown: object) -> None:
    """The walk of the program's first page, and the picture of RAM, which has the program's frames behind 100000000."""
    assert callable(shown)
    walk = json.loads(shown("walk", "images/cow-fork", "$eip", "x", "--json"))
    assert walk["physical"] >= 4 * GB
    text = shown("walk", "images/cow-fork", "$eip", "x")
    assert f"{walk['physical']:#x}" in text
    zones = {each["name"]: each for each in json.loads(shown("frames", "images/cow-fork", "--json"))["zones"]}
    assert zones["HIGHMEM"]["frames"] == (6 * GB - (800 << 20)) // PAGE
    row = next(line for line in shown("frames", "images/cow-fork").splitlines() if line.strip().startswith("100000000"))
    assert row.split()[1][0] in "uU"
