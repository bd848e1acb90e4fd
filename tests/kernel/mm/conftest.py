"""A loaded task whose memory calls are made from Python and whose accesses are made by the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.events import PageFault
from sandbox.kernel.mm.mmap import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from tests.conftest import MakeSession
from tests.kernel.mm.machines import current_task

AREA, PAGE = 0x50000000, 4096


class Space:
    """Addresses are linear.  ``read`` and ``write`` run on a CPU in the task's address space."""

    def __init__(self, session: MakeSession, text: str = "_start: pass", **config: object) -> None:
        self.session = session(text, **config)
        self.task, self.mm = current_task(self.session)
        self.kernel, self.cpu = self.session.kernel, self.task.cpu
        self.faults: list[PageFault] = []
        self.kernel.bus.subscribe(self.faults.append, PageFault)

    @property
    def resolutions(self) -> list[str]:
        """Of the faults since this was last asked."""
        seen = [fault.resolution for fault in self.faults]
        self.faults.clear()
        return seen

    def map(self, pages: int = 1, at: int = AREA, prot: int = 3) -> int:
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        return self.kernel.mmap.do_mmap(self.task, at, pages * PAGE, prot, flags, None, 0)

    def read(self, address: int, cpu: KernelCpu | None = None) -> int:
        """The word at an address, 0 where it faults."""
        return (cpu or self.cpu).call(self.kernel.routines.get_user_4, edi=address)

    def write(self, address: int, value: int, cpu: KernelCpu | None = None) -> bool:
        return not (cpu or self.cpu).call(self.kernel.routines.put_user_4, eax=value, edi=address)

    def entry(self, address: int) -> int:
        return self.kernel.tables.lookup_pte(self.mm.pgd, address)

    def frame(self, address: int) -> int:
        return self.kernel.tables.pte_pfn(self.entry(address))

    def count(self, address: int) -> int:
        return self.kernel.memmap.count(self.frame(address))


MakeSpace = Callable[..., Space]


@pytest.fixture
def space(session: MakeSession) -> MakeSpace:
    """``space(text, **config)``: a Space."""
    return lambda *given, **config: Space(session, *given, **config)
