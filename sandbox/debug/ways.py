"""What a run of a CPU goes through on its way to the engine, and who watches memory meanwhile."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from sandbox.engine.cpu import Cpu


class Watching(Protocol):
    """Who watches memory (``watching.Watching``)."""

    def before(self, cpu: Cpu) -> None:
        """The engine is about to go on."""
        ...

    def end(self) -> None:
        """Watch nothing any more."""
        ...

    def loaded(self, cpu: Cpu) -> None:
        """A watch has stopped the engine, behind a load of CR3."""
        ...

    def touched(self) -> bool:
        """The engine has come back: whether there is something for ``behind`` to tell."""
        ...

    def behind(self, cpu: Cpu) -> bool:
        """The engine has come back: whether something that is watched was touched, and told."""
        ...

    @property
    def busy(self) -> bool:
        """There is something to do before the next run of the engine, or behind it."""
        ...


class Way(IntEnum):
    """What a run of a CPU goes through."""

    BARE = 0
    """Nothing of ours."""
    LIGHT = 1
    """Ends of runs are looked at."""
    FULL = 2
    """So is what comes before."""
