"""The TLB feed's host code against its source, and what it notes of a CPU against what the manual says a CPU does."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.engine import feedtest, internals, stubs, tlbcode, tlbfeed
from sandbox.engine.cpu import Cpu
from sandbox.engine.library import UnknownEngine
from sandbox.engine.tlbfeed import Batch, NoFeed, Refill
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.masks import CR0_PAGED, CR4_SSE
from sandbox.x86.paging import RW, US, A, D, P
from tests.hosttools import host_code

SOURCE = Path(tlbcode.__file__).parent / "native" / "tlbfeed.S"
pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the feed is x86-64 Linux code")
PGD, TABLE, CODE, OLD, NEW = 0x100000, 0x101000, 0x102000, 0x103000, 0x104000
LINEAR, DATA = 0x400000, 0x401000
LOAD = bytes.fromhex("a100104000f4")
"""mov eax, [0x401000]; hlt"""


class Bench:
    """A CPU with two pages: its code, and data that lie in OLD (which holds 1) or NEW (which holds 2)."""

    def __init__(self) -> None:
        self.memory = PhysicalMemory(4 << 20)
        self.cpu = Cpu()
        self.memory.map_into(self.cpu)
        self.seen: list[tuple[int, ...]] = []
        self.feed = feedtest.watch([self.cpu], self._read)
        self.write(PGD + 4, TABLE | P | RW | US | A)
        self.write(TABLE, CODE | P | RW | US | A | D)
        self.point(OLD)
        self.write(OLD, 1)
        self.write(NEW, 2)

    def _read(self, batch: Batch) -> None:
        self.seen += [(head & 15, batch.word(at, 1)) for at, head in enumerate(batch.heads)]

    def write(self, physical: int, value: int) -> None:
        self.memory.host_write(physical, value.to_bytes(4, "little"), Reason.PROCESSOR)

    def point(self, frame: int) -> None:
        self.write(TABLE + 4, frame | P | RW | US | A | D)

    def run(self, code: bytes = LOAD) -> int:
        """EAX afterwards."""
        self.memory.host_write(CODE, code, Reason.IMAGE)
        self.cpu.drop_all_code()
        state = self.cpu.context
        state.cr0, state.cr3, state.cr4, state.eip = CR0_PAGED, PGD, CR4_SSE, LINEAR
        self.cpu.run(8)
        self.feed.drain()
        return state.eax


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.cpu.close()


@pytest.mark.skipif(not shutil.which("as"), reason="no GNU as")
def test_bytes_are_the_sources(tmp_path: Path) -> None:
    code, labels = host_code(SOURCE, tmp_path)
    assert code[: labels["end_of_code"]] == tlbcode.CODE
    assert {name: labels[name] for name in tlbcode.OFFSETS} == tlbcode.OFFSETS
    fields = {name: 4096 + getattr(tlbcode.Data, name).offset for name, _ in tlbcode.Data._fields_}
    assert fields == {name: labels[name] for name in fields}
    assert len(code) == 4096 + ctypes.sizeof(tlbcode.Data)


def test_off_leaves_the_engine_as_it_was(bench: Bench) -> None:
    slots = [internals.slot(f"{name}_x86_64") for name in tlbfeed._SLOTS.values()]
    words = [*slots, bench.cpu.handle.pad.cpu + tlbfeed.MISS_HANDLER]

    def values() -> list[int]:
        return [ctypes.c_uint64.from_address(each).value for each in words]

    before = values()
    bench.feed.switch(True)
    assert not set(before) & set(values())
    bench.feed.switch(False)
    assert values() == before
    bench.run()
    assert bench.seen == []


def test_pythons_flushes_are_not_the_guests(bench: Bench) -> None:
    bench.feed.switch(True)
    bench.run()
    bench.seen.clear()
    bench.cpu.flush_tlb()
    bench.cpu.unmap_ram(0x100000, 0x300000)
    bench.feed.drain()
    assert bench.seen == []


def test_a_hit_is_no_miss(bench: Bench) -> None:
    bench.feed.switch(True)
    bench.run()
    bench.seen.clear()
    bench.run()
    assert bench.seen == []


def test_the_probe_puts_the_old_translation_back(bench: Bench) -> None:
    asked: list[tuple[int, int, int, bool, int]] = []

    def ask(number: int, linear: int, access: int, user: bool, back: int) -> Refill:
        asked.append((number, linear, access, user, bench.feed.instruction(number, back)))
        return Refill(OLD, tlbfeed.RIGHT_READ, 0)

    bench.feed.answer(ask)
    bench.feed.switch(True)
    assert bench.run() == 1
    bench.point(NEW)
    bench.feed.suspect(0, DATA)
    nops = b"\x90" * 5
    assert bench.run(nops + LOAD) == 1
    assert asked == [(0, DATA, tlbfeed.LOAD, False, LINEAR + 5)]
    bench.feed.clear(DATA)
    assert bench.run(bytes.fromhex("0f013d00104000") + LOAD) == 2


def test_a_full_ring_is_read_inside_the_run(bench: Bench) -> None:
    bench.feed.switch(True)
    loop = bytes.fromhex("b940420f000f013d00104000e2f7f4")  # mov ecx, 1000000; invlpg [0x401000]; loop; hlt
    bench.memory.host_write(CODE, loop, Reason.IMAGE)
    state = bench.cpu.context
    state.cr0, state.cr3, state.cr4, state.eip = CR0_PAGED, PGD, CR4_SSE, LINEAR
    while bench.cpu.run(100_000) and state.ecx & 0xFFFFFFFF:
        pass
    bench.feed.drain()
    assert sum(kind == tlbfeed.PAGE for kind, _ in bench.seen) == 1_000_000


def test_an_error_of_the_reader_is_raised_by_the_next_drain(bench: Bench) -> None:
    def fail(_: Batch) -> None:
        raise KeyError("reader")

    bench.feed.reader = fail
    bench.feed.switch(True)
    with pytest.raises(KeyError):
        bench.run()
    bench.feed.reader = lambda _: None


def test_one_machine_at_a_time(bench: Bench) -> None:
    other = Cpu()
    second = feedtest.watch([other], lambda _: None)
    bench.feed.switch(True)
    with pytest.raises(NoFeed):
        second.switch(True)
    other.close()


def test_a_closed_cpu_is_forgotten(bench: Bench) -> None:
    bench.feed.switch(True)
    bench.cpu.close()
    assert not bench.feed.is_on
    other = Cpu()
    feedtest.watch([other], lambda _: None).switch(True)
    other.close()


def test_another_host_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stubs, "native_host", lambda: False)
    with pytest.raises(NoFeed, match="host") as caught:
        feedtest.watch([], lambda _: None)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("name", ["MISS_HANDLER", "ENV_IN_CPU"])
def test_another_engine_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(tlbfeed, name, getattr(tlbfeed, name) - 8)
    cpu = Cpu()
    with pytest.raises(UnknownEngine):
        feedtest.watch([cpu], lambda _: None)
    cpu.close()


def test_another_order_of_calls_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedtest, "_verified", False)
    monkeypatch.setattr(feedtest, "_expected", lambda pae: [])
    with pytest.raises(UnknownEngine, match="TLB"):
        feedtest.watch([], lambda _: None)
