"""All allocators at once on one kernel, requests failing at random: every frame has exactly one owner, always."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandbox.image.build import IMAGES
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.mm.mmap import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from sandbox.kernel.module.loader import InitFailed, ModuleError
from sandbox.runner.run import Session
from sandbox.runner.target import resolve
from tests.campaign import histories
from tests.kernel.mm.machines import load, physical, store

PAGE, AREA, PAGES = 4096, 0x50000000, 64
GFP_KERNEL = 3
PROGRAM = resolve(IMAGES / "cow-fork")
MODULES = {name: resolve(IMAGES / name).data for name in ("library", "busy", "uaccess", "resident")}


class Everything(RuleBasedStateMachine):
    """``pages``, ``pieces`` and ``areas`` are what guest kernel code holds; each holds its own address."""

    paging = "pae"
    policies: dict[str, str] = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        config = KernelConfig(ram=6 << 20, paging=self.paging, devices=("card",), policies=dict(self.policies))
        self.session = Session("t", PROGRAM.data, [], config)
        task = self.session.load()
        self.kernel, self.task, self.cpu = self.session.kernel, task, task.cpu
        assert task.mm is not None
        self.mm = task.mm
        self.cpu.current = task
        self.kernel.mmu.switch_mm(self.cpu, self.mm)
        self.kernel.mmap.do_mmap(task, AREA, PAGES * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, None, 0)
        self.pages: dict[int, int] = {}
        self.pieces: set[int] = set()
        self.areas: dict[int, int] = {}
        self.devices: set[int] = set()
        self.written: dict[int, int] = {}
        self.boot_frames = self.owned()

    def teardown(self) -> None:
        self.session.close()

    def call(self, name: str, *arguments: int) -> int:
        return self.cpu.call_c(self.session.system.gate.symbols[name], *arguments)

    def marked(self, address: int, held: Callable[[], None]) -> None:
        if address:
            store(self.kernel, address, address)
            held()

    @rule(order=st.integers(0, 4), high=st.booleans())
    def get_pages(self, order: int, high: bool) -> None:
        address = self.call("get_free_pages" if high else "__get_free_pages", GFP_KERNEL, order)
        self.marked(address, lambda: self.pages.__setitem__(address, order))

    @precondition(lambda self: self.pages)
    @rule(data=st.data())
    def free_pages(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.pages)))
        assert load(self.kernel, address) == address
        self.call("free_pages", address, self.pages.pop(address))

    @rule(size=st.integers(4, 20000))
    def kmalloc(self, size: int) -> None:
        address = self.call("kmalloc", size, GFP_KERNEL)
        self.marked(address, lambda: self.pieces.add(address))

    @precondition(lambda self: self.pieces)
    @rule(data=st.data())
    def kfree(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.pieces)))
        self.pieces.remove(address)
        assert load(self.kernel, address) == address
        self.call("kfree", address)

    @rule(pages=st.integers(1, 40))
    def vmalloc(self, pages: int) -> None:
        address = self.call("vmalloc", pages * PAGE)
        self.marked(address, lambda: self.areas.__setitem__(address, pages))

    @precondition(lambda self: self.areas)
    @rule(data=st.data())
    def vfree(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.areas)))
        del self.areas[address]
        assert load(self.kernel, address) == address
        self.call("vfree", address)
        assert physical(self.kernel, address) is None

    @rule(pages=st.integers(1, 40))
    def vremap(self, pages: int) -> None:
        address = self.call("vremap", 0x80000000, pages * PAGE)
        if address:
            assert load(self.kernel, address) == 0x44524143
            self.devices.add(address)

    @precondition(lambda self: self.devices)
    @rule(data=st.data())
    def iounmap(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.devices)))
        self.devices.remove(address)
        self.call("iounmap", address)

    @rule(page=st.integers(0, PAGES - 1), value=st.integers(1, 0xFFFFFFFF))
    def touch(self, page: int, value: int) -> None:
        if self.call("__put_user", value, AREA + page * PAGE, 4) == 0:
            self.written[page] = value

    @rule(first=st.integers(0, PAGES - 1), count=st.integers(1, 20))
    def forget(self, first: int, count: int) -> None:
        count = min(count, PAGES - first)
        try:
            self.kernel.mmap.do_munmap(self.task, AREA + first * PAGE, count * PAGE)
            flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
            self.kernel.mmap.do_mmap(self.task, AREA + first * PAGE, count * PAGE, 3, flags, None, 0)
        except OutOfMemory:
            return
        for page in range(first, first + count):
            self.written.pop(page, None)

    @rule(name=st.sampled_from(sorted(MODULES)))
    def insmod(self, name: str) -> None:
        if self.session.modules.find(name) is None:
            try:
                self.session.modules.load(name, MODULES[name])
            except (ModuleError, InitFailed):
                return
        else:
            self.session.modules.unload(name)

    @rule(nth=st.integers(1, 12))
    def fail(self, nth: int) -> None:
        self.kernel.page_alloc.failing.seen, self.kernel.page_alloc.failing.at = 0, nth

    @rule()
    def reclaim(self) -> None:
        self.kernel.pagecache.shrink_mmap(20)

    @rule()
    def drain(self) -> None:
        self.call("drain_free_lists")

    def owned(self) -> int:
        """Frames that somebody has, owner by owner."""
        kernel, tables = self.kernel, self.kernel.tables
        user = {
            tables.pte_pfn(entry)
            for _, entry in tables.user_ptes(self.mm.pgd, 0, 0xC0000000)
            if entry & 0x81 and not kernel.memmap.reserved(tables.pte_pfn(entry))
        }
        owned = user | set(kernel.pagecache.frames())
        count = len(owned) + kernel.table_frames.held + kernel.stacks.spare_frames + len(self.task.stack_frames)
        count += kernel.kmalloc.pages + sum(len(area.frames) for area in kernel.vmalloc.areas if area.owned)
        return count + sum(1 << order for order in getattr(self, "pages", {}).values())

    @invariant()
    def every_frame_has_one_owner(self) -> None:
        frames = self.kernel.pgdat
        assert frames.total_frames - frames.free_frames == self.owned()
        assert frames.free_frames == sum(frames.zone_free(zone) for zone in frames.zones)

    @invariant()
    def what_was_stored_is_there(self) -> None:
        for page, value in self.written.items():
            assert self.kernel.peek.peek(self.mm, AREA + page * PAGE, 4) == value.to_bytes(4, "little")
        for address in (*self.pages, *self.pieces, *self.areas):
            assert self.kernel.peek.peek(None, address, 4) == address.to_bytes(4, "little")

    @invariant()
    def areas_are_apart(self) -> None:
        ends = 0
        for area in self.kernel.vmalloc.areas:
            assert area.start >= ends
            ends = area.end + PAGE
            for number in (0, len(area.frames) - 1):
                assert physical(self.kernel, area.start + number * PAGE) == area.frames[number] << 12
            assert physical(self.kernel, area.end) is None


class EverythingElse(Everything):
    paging = "legacy"
    policies = {"kmalloc": "2.1", "orders": "10", "mem_model": "vmemmap", "dma": "park"}  # noqa: RUF012


TestEverything, TestEverythingCampaign = histories(Everything, 15, 40, 50)
TestEverythingElse, TestEverythingElseCampaign = histories(EverythingElse, 15, 40, 50)
