"""Neighbouring pages of one kind folded into one row: what dumps of tables and of TLBs are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sandbox.records import dataclass
from sandbox.x86.paging import PAGE_SHIFT


@dataclass(slots=True)
class Run:
    """Linear addresses [start, end) whose entries say the same; ``words`` are their flags.

    ``frame`` is the first frame's number, None where nothing is mapped; ``step`` is by how many frames the next piece
    lies on, None when they lie anywhere.  ``index`` and ``place`` (physical) are of the first entry, ``note`` is what
    is to be said of it.
    """

    level: str
    index: int
    place: int
    start: int
    end: int
    entry: int
    words: str
    frame: int | None = None
    step: int | None = 0
    pieces: int = 1
    note: str = ""

    @property
    def stride(self) -> int:
        """Frames of one piece."""
        return (self.end - self.start) // self.pieces >> PAGE_SHIFT

    def takes(self, other: Run) -> bool:
        """Whether a neighbour says the same; it is part of this one then."""
        same = (self.level, self.words, self.note, self.frame is None) == (
            other.level, other.words, other.note, other.frame is None,
        )  # fmt: skip
        if not same or self.end != other.start or self.stride != other.stride:
            return False
        if self.frame is None or other.frame is None:
            if self.entry != other.entry:
                return False
        elif self.step is not None:
            follows = other.frame == self.frame + self.pieces * self.stride
            still = other.frame == self.frame
            if not self.step:
                self.step = self.stride if follows else None
            elif not follows:
                self.step = None
            if still and self.pieces == 1:
                self.step = None
        self.end, self.pieces = other.end, self.pieces + 1
        return True

    def frames(self) -> str:
        """``frame 0x100a``, ``frames 0x100a-0x100f``, or how many there are."""
        if self.frame is None:
            return ""
        count = self.pieces * self.stride
        if count == 1:
            return f"frame {self.frame:#x}"
        if self.step is None:
            return f"{count} frames, the first {self.frame:#x}"
        return f"frames {self.frame:#x}-{self.frame + count - 1:#x}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the frames lie in a row, or only the first is told."""
        return {
            "level": self.level, "index": self.index, "place": self.place, "start": self.start, "end": self.end,
            "entry": self.entry, "flags": self.words, "frame": self.frame, "pieces": self.pieces,
            "in_a_row": self.step is not None, "note": self.note,
        }  # fmt: skip


def folded(runs: Iterable[Run]) -> Iterator[Run]:
    """Neighbours that say the same as one."""
    last: Run | None = None
    for run in runs:
        if last is not None and last.takes(run):
            continue
        if last is not None:
            yield last
        last = run
    if last is not None:
        yield last
