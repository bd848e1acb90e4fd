"""The dump that a worker leaves: its bytes, and what its parent finds in a worker that hangs in guest code."""

from __future__ import annotations

import os
import struct
from types import SimpleNamespace

import pytest

from sandbox.engine import crashdump, stubs
from sandbox.engine.cpu import Cpu
from sandbox.engine.crashdump import CrashDump
from sandbox.engine.crashlayout import DUMP
from sandbox.engine.worker import WorkerDied, run_contained
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.masks import CR0_PAGED, CR4_PAE
from sandbox.x86.paging import RW, P

native = pytest.mark.skipif(not stubs.native_host(), reason="the stubs are host code")
WORDS = struct.pack("<QQI QQQI QQQ QQQ QQQI", 1, 2, 2, 3, 4, 5, 2, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0)
"""Two handles behind the head, with two ranges of RAM and with none."""
CODE, LINEAR = 0x4000, 0x400000
ENDLESS = b"\x90\xeb\xfd"
"""``nop``, and a jump back to it."""


def test_layout() -> None:
    found = DUMP.parse(WORDS + bytes(100))
    assert (found.running_at, found.signal_at) == (1, 2)
    first, second = found.handles
    assert (first.pad, first.env, first.state_size) == (3, 4, 5)
    assert [(each.first, each.size, each.host) for each in first.ram] == [(6, 7, 8), (9, 10, 11)]
    assert (second.pad, second.env, second.state_size, list(second.ram)) == (12, 13, 14, [])
    assert DUMP.build(found) == WORDS


@native
def test_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    one = SimpleNamespace(pad_address=3, pad=SimpleNamespace(env=4), state_size=5, ram=[(6, 7, 8), (9, 10, 11)])
    monkeypatch.setattr(crashdump, "_handles", [one])
    monkeypatch.setattr(stubs, "link_address", {"running": 1, "fatal_signal": 2}.__getitem__)
    dump = CrashDump()
    dump.update()
    assert dump._memory[:96] == struct.pack("<QQI QQQI QQQ QQQ", 1, 2, 1, 3, 4, 5, 2, 6, 7, 8, 9, 10, 11)


@pytest.mark.parametrize("head", [(0, 0, 0), (1, 1, 0), (1 << 63, 1, 0), (1, 1, 0xFFFFFFFF)])
def test_what_cannot_be_read_is_no_answer(head: tuple[int, int, int]) -> None:
    """A dump never written, and garbage in it: addresses that nobody has, more handles than fit."""
    dump = CrashDump()
    dump._memory[:20] = struct.pack("<QQI", *head)
    assert dump.read(os.getpid()) is None


def hang(paged: bool) -> None:
    memory = PhysicalMemory(16 << 20)
    cpu = Cpu()
    memory.map_into(cpu)
    memory.host_write(CODE, ENDLESS, Reason.IMAGE)
    quads, state = memory.mutable_quads(Reason.TABLE), cpu.context
    state.eip = CODE
    if paged:
        for place, entry in ((0x1000, 0x2000 | P), (0x2000 + (LINEAR >> 21) * 8, 0x3000 | P | RW), (0x3000, CODE | P)):
            quads[place >> 3] = entry
        state.cr3, state.cr4, state.cr0, state.eip = 0x1000, CR4_PAE, CR0_PAGED, LINEAR
    while True:
        cpu.run(1 << 40)


@native
@pytest.mark.parametrize("paged", [False, True])
def test_a_worker_that_hangs_is_explained(paged: bool) -> None:
    with pytest.raises(WorkerDied) as caught:
        run_contained(lambda: hang(paged), time_limit=1.0)
    seen = caught.value.seen
    assert caught.value.cause == "hang" and seen is not None
    assert (seen.started_at, seen.block, seen.code) == (*[LINEAR if paged else CODE] * 2, ENDLESS)
    assert "90 eb fd" in caught.value.detail
