"""Names, source lines and call frame information of what a task executes: its program, wherever it was loaded, the
interpreter, shared libraries.  What a process had is known when it has ended, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sandbox.kernel.fs.namespace import read_all
from sandbox.kernel.inspect.mapped import Mapped
from sandbox.kernel.inspect.symbolize import Symbols
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.inode import Inode

if TYPE_CHECKING:
    from sandbox.debug.lines import LineTable
    from sandbox.debug.unwind import FrameInfo

Key = tuple[Inode, int]


class ProgramFiles:
    """Of one kernel's tasks.  Each file is read when somebody asks, and once for each place where it lies."""

    def __init__(self, kernel: Kernel, symbols: Symbols) -> None:
        self._kernel, self._symbols = kernel, symbols
        self._gone: dict[int, list[Mapped]] = {}
        """What processes had when their memory went, by their numbers."""
        self._lines: dict[Key, LineTable] = {}
        self._frames: dict[Key, FrameInfo] = {}
        kernel.mmu.farewell = self._note

    def _note(self, mm: Mm) -> None:
        task = self._kernel.sched.current
        if task is not None:
            self._gone[task.tgid] = self._symbols.files.of(mm, task.exe_inode)

    def of(self, task: Task | None, linear: int | None = None) -> list[Mapped]:
        """A task's, of one that has no memory any more what its process had; without a task the first program's.

        With an address, if it is one of code: the file that it is in.
        """
        task = task or self._kernel.tasks.program
        if task is None:
            return []
        gone = [] if task.mm is not None else self._gone.get(task.tgid, [])
        here = [each for each in gone if linear is not None and each.start <= linear < each.end]
        return here or gone or self._symbols.files_of(task, linear)

    def address(self, task: Task | None, name: str) -> int | None:
        """Where a name is, the program's before the libraries'."""
        for each in self.of(task):
            found = self._symbols.symbols_of(each.inode).address(name)
            if found is not None:
                return found + each.bias
        return None

    def name(self, task: Task | None, linear: int) -> str:
        """``name+0x10``, or nothing."""
        return self._symbols.name_in(self.of(task, linear), linear)

    def names(self, task: Task | None) -> list[str]:
        """All of them."""
        return [name for each in self.of(task) for name, _ in self._symbols.symbols_of(each.inode).items()]

    def line_tables(self, task: Task | None, linear: int | None = None) -> Iterator[LineTable]:
        """Of all files, or of the one with an address in it.  One without line numbers costs one search."""
        from sandbox.debug.lines import LineTable, has_lines

        for each in self.of(task, linear):
            key = each.inode, each.bias
            if key not in self._lines:
                data = read_all(each.inode)
                self._lines[key] = LineTable(data if has_lines(data) else b"", bias=each.bias)
            yield self._lines[key]

    def frames(self, task: Task | None, linear: int) -> FrameInfo | None:
        """The call frame information of the file that an address is in."""
        from sandbox.debug.unwind import FrameInfo

        for each in self.of(task, linear):
            if each.start <= linear < each.end or not each.end:
                key = each.inode, each.bias
                if key not in self._frames:
                    self._frames[key] = FrameInfo(read_all(each.inode), each.bias)
                return self._frames[key]
        return None
