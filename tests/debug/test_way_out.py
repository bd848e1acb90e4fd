"""Pages that are cleared on the way out under a debugger: it stops where it would if each had a run of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.programs import build
from sandbox.debug.debugger import Debugger
from sandbox.debug.kernel_target import KernelTarget
from sandbox.engine import stubs
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.events import PageFault
from sandbox.kernel.mm.highmem import Highmem
from sandbox.runner.run import Session
from sandbox.x86.paging import FRAME_MASK

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the way out and watchpoints are x86-64 Linux code")
PAGES = 6
TOUCH = f"mov edi, offset buffer\n2: mov [edi+8], edi\nadd edi, 4096\ncmp edi, offset buffer + {PAGES * 4096}\njb 2b\n"


def session() -> Session:
    return Session("t", build(TOUCH, PAGES * 4096), [], KernelConfig(time_limit=0))


@pytest.fixture(scope="module")
def frame() -> int:
    """Physical address of a page that the program brings in."""
    made, found = session(), list[PageFault]()
    made.kernel.bus.subscribe(found.append, PageFault)
    made.finish()
    made.close()
    return [event.pte & FRAME_MASK for event in found if event.resolution == "demand-zero"][-3]


def stops(point: str, look: Callable[[KernelTarget], object], on_the_way: bool) -> list[tuple[object, ...]]:
    """Every stop at a point, what is seen there, and how it all ended."""
    target = KernelTarget("t", session())
    if not on_the_way:
        target.system.traps._ways_out = (None,) * len(target.kernel.cpus)
    debugger = Debugger(target)
    debugger.begin()
    assert not debugger.execute(point).error
    found: list[tuple[object, ...]] = []
    while target.result is None:
        stop = debugger.go()
        found.append((stop.kind, stop.headline, stop.moment, look(target)))
    found.append((target.result.status, target.kernel.clock.machine, [cpu.calls for cpu in target.kernel.cpus]))
    target.close()
    return found


@pytest.mark.parametrize("knows", [True, False], ids=["the page is known to be watched", "the watch stops it"])
@pytest.mark.parametrize("how", ["watch", "rwatch", "awatch"])
def test_a_watch_of_the_page_that_is_cleared(
    frame: int, how: str, knows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each store of the routine, and the program's: at its moment, with the memory as it is there."""
    if not knows:
        monkeypatch.setattr(Highmem, "_is_watched", lambda self, pfn, way: False)

    def word(target: KernelTarget) -> tuple[int, int]:
        return target.kernel.memory.read_word(frame + 8), target.kernel.this_cpu.kstack.depth

    fast, slow = (stops(f"{how} physical {frame + 8:#x}", word, each) for each in (True, False))
    assert fast == slow
    assert len(fast) > (2 if how != "rwatch" else 1)


def test_who_is_told_of_an_answer_finds_the_page_cleared(frame: int) -> None:
    """A catch of faults leaves them on the way; at its stop nothing is undone."""

    def seen(target: KernelTarget) -> tuple[bytes, bool]:
        return target.kernel.memory.read(frame, 4096), any(cpu.way_out for cpu in target.kernel.cpus)

    fast, slow = (stops("catch demand-zero", seen, each) for each in (True, False))
    assert fast == slow
    assert len(fast) > PAGES
