"""A system call while its line is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sandbox.records import dataclass

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task.task import Task


@dataclass(slots=True)
class Call:
    """A system call while its line is made; ``result`` is negative for an errno, None on the way in."""

    kernel: Kernel
    task: Task
    arguments: tuple[int, ...]
    result: int | None = None
    before: int | None = None
    """What a length that the kernel changes was on the way in."""

    @property
    def failed(self) -> bool:
        return self.result is not None and self.result < 0

    def bytes_at(self, address: int, size: int) -> bytes | None:
        """All of them, or None."""
        data = self.kernel.peek.read_user(self.task.mm, address, size)
        return data if len(data) == size else None


Decoder = Callable[[Call, int], str]
"""The call and the index of the argument."""
