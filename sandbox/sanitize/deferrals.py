"""What may stay stale for a while, each with why that is safe.  All of the allowed delays are here and nowhere else.

A deferral excuses the chance, never a use.
"""

from __future__ import annotations

from typing import Protocol

from sandbox.kernel.base.layout import FIXADDR_END
from sandbox.kernel.mm.kmap import Kmap
from sandbox.kernel.mm.kmap_atomic import KM_TYPE_NR
from sandbox.kernel.mm.page_kva import PageKva
from sandbox.records import dataclass
from sandbox.x86.paging import PAGE_SIZE


class Deferral(Protocol):
    """One allowed delay."""

    @property
    def name(self) -> str: ...

    @property
    def why(self) -> str: ...

    def covers(self, cpu: int, linear: int) -> bool:
        """The delay allows a CPU (by index) a stale translation of a linear address."""
        ...


@dataclass(frozen=True, slots=True)
class AtomicSlots:
    """With fixed slots ``kunmap_atomic`` leaves the entry, and the flush to the next ``kmap_atomic`` (MM 14, 2.4).

    The stack and the heap flush when a window is closed: they have no delay.
    """

    per_cpu: int = KM_TYPE_NR
    name: str = "kmap_atomic"
    why: str = "a window is used by its own CPU only, and not before the next kmap_atomic, which begins with INVLPG"

    def covers(self, cpu: int, linear: int) -> bool:
        end = FIXADDR_END - cpu * self.per_cpu * PAGE_SIZE
        return end - self.per_cpu * PAGE_SIZE <= linear < end


@dataclass(frozen=True, slots=True)
class KvaPool:
    """A slot of the kva pool has another page, or none, and a CPU has not flushed since (post 001, MM 12)."""

    pool: PageKva
    name: str = "page_kva"
    why: str = "whoever uses a slot finds that its CPU is not current for it, and begins with INVLPG"

    def covers(self, cpu: int, linear: int) -> bool:
        return self.pool.may_be_stale(cpu, linear)


@dataclass(frozen=True, slots=True)
class Pkmap:
    """A slot of kmap at count 1: without a user, until a lap unmaps and flushes all of them together (MM 13)."""

    pool: Kmap
    name: str = "kmap"
    why: str = "nobody uses a slot at count 1, and it is taken again only behind the flush of the lap"

    def covers(self, cpu: int, linear: int) -> bool:
        return self.pool.may_be_stale(linear)
