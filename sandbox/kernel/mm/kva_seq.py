"""Which CPUs may still have an old translation of an address: a sequence number on each CPU (post 001, MM 12).

Every change of a present entry gets the next number, its *generation*.  When a CPU empties its TLB (a CR3 load, for
entries that are not global), it notes the number that stood when it *began*: translations of older generations are gone
from it.  So a change need not be followed by an invalidation anywhere; who is about to use the address finds out
whether his own CPU is current, and most often it is, because it has switched address spaces since.

The number is sampled before the flush, not after: what changes while a CPU flushes may have been walked again.  A
switch that loads no CR3 (same mm, a kernel thread after a kernel thread) empties nothing and notes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from sandbox.records import dataclass

SEQUENCE_BITS = 32
"""Width of the number: an unsigned long of i386."""
Ticket = tuple[int, int]
"""Epoch and number, as they stood when a flush began."""


@dataclass(slots=True, eq=False)
class Mapped:
    """An address whose entry changes: the generation of its last change (0: it never had one, nobody can be stale)."""

    generation: int = 0
    cpus: int = 0
    """Bit n: CPU n has executed INVLPG, or was found to be current, since."""


class FlushSequence:
    """The numbers of one machine: ``generation`` of the last change, ``seen`` by CPU.

    When ``bits`` are used up all numbers begin again, and nothing is known of any CPU until its next flush.
    """

    __slots__ = ("_bits", "_broken_wrap", "_epoch", "generation", "mapped", "seen", "wraps")

    def __init__(self, cpus: int, bits: int = SEQUENCE_BITS, broken_wrap: bool = False) -> None:
        self._bits, self._broken_wrap = bits, broken_wrap
        self._epoch = 0
        self.generation = 0
        self.seen = [0] * cpus
        self.mapped: Iterable[Mapped] = ()
        """All addresses that have a generation."""
        self.wraps = 0

    def change(self, mapped: Mapped) -> None:
        """An entry has just been taken away: no CPU is current for its address, until it flushes."""
        if self.generation == (1 << self._bits) - 1:
            self._wrap()
        self.generation += 1
        mapped.generation, mapped.cpus = self.generation, 0

    def sample(self) -> Ticket:
        """Before a flush."""
        return self._epoch, self.generation

    def flushed(self, cpu: int, began: Ticket) -> None:
        """A CPU has nothing left of what was present when its flush began."""
        epoch, number = began
        if epoch == self._epoch:
            self.seen[cpu] = max(self.seen[cpu], number)

    def flushed_since(self, cpu: int, mapped: Mapped) -> bool:
        """A complete flush of a CPU has begun since the change."""
        return self.seen[cpu] >= mapped.generation

    def current(self, cpu: int, mapped: Mapped) -> bool:
        """A CPU cannot have an old translation of the address."""
        return bool(mapped.cpus >> cpu & 1) or self.seen[cpu] >= mapped.generation

    def _wrap(self) -> None:
        """Forget who is current: every address is of generation 1, which no CPU has seen.

        A flush that is under way has sampled an old number, which now means nothing.
        """
        self.wraps += 1
        if self._broken_wrap:
            self.generation = 0
            return
        self._epoch += 1
        self.generation = 1
        self.seen = [0] * len(self.seen)
        for each in self.mapped:
            if each.generation:
                each.generation, each.cpus = 1, 0
