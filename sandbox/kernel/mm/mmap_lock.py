"""The lock of an address space (``mmap_lock``): many may fault at once, one may change the areas.

A fault holds it while it asks for frames, which is where it may sleep: until it is done, no munmap takes the area or
the table away.  Who has to wait sleeps.  Readers do not wait for a writer that waits, for a reader may fault again.
"""

from __future__ import annotations

from sandbox.kernel.base.wait import Waiting, WaitQueue


class MmapLock:
    """``with mm.lock:`` is the writer's side; a reader waits for the writer and counts itself in ``readers``."""

    __slots__ = ("queue", "readers", "sched", "writer")

    def __init__(self, sched: Waiting | None = None) -> None:
        self.sched = sched
        self.readers = 0
        self.writer: object = None
        """The task that changes areas; what it brings in meanwhile it may."""
        self.queue = WaitQueue("an address space")

    def wait_for_writer(self) -> None:
        """Until nobody else changes areas."""
        while self.writer is not None and self.writer is not self._current():
            self._wait()

    def wake(self) -> None:
        """The last reader or the writer is done: who waits looks again."""
        if not self.readers:
            assert self.sched is not None
            self.sched.wake_up(self.queue)

    def __enter__(self) -> None:
        while self.writer is not None or self.readers:
            self._wait()
        self.writer = self._current()

    def __exit__(self, *_: object) -> None:
        self.writer = None
        if self.queue.tasks:
            self.wake()

    def _current(self) -> object:
        return self if self.sched is None else self.sched.current

    def _wait(self) -> None:
        assert self.sched is not None
        self.sched.schedule((self.queue,), self.queue.what)
