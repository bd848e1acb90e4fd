"""The lock of an address space: any number of faults, or one that changes areas; who waits sleeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from greenlet import getcurrent, greenlet

from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.mm.mmap_lock import MmapLock


class Turns:
    """A scheduler of greenlets: who sleeps goes back to the test, ``wake_up`` makes ready."""

    def __init__(self) -> None:
        self.ready: list[greenlet] = []
        self._main = getcurrent()

    @property
    def current(self) -> greenlet:
        return getcurrent()

    def schedule(self, queues: Iterable[WaitQueue], what: str, until: int | None = None) -> None:
        for queue in queues:
            queue.tasks.append(getcurrent())
        self._main.switch()

    def wake_up(self, queue: WaitQueue) -> None:
        self.ready += queue.tasks
        queue.tasks.clear()

    def run(self, *bodies: Callable[[], None]) -> None:
        self.ready += [greenlet(body) for body in bodies]
        while self.ready:
            self.ready.pop(0).switch()


def test_a_writer_waits_for_readers_and_keeps_them_out() -> None:
    turns = Turns()
    lock, seen = MmapLock(turns), list[str]()  # type: ignore[arg-type]
    pause = WaitQueue("the test")

    def reads(name: str) -> Callable[[], None]:
        def body() -> None:
            lock.wait_for_writer()
            lock.readers += 1
            seen.append(f"{name} reads")
            turns.schedule((pause,), "")
            seen.append(f"{name} has read")
            lock.readers -= 1
            lock.wake()

        return body

    def writes() -> None:
        with lock:
            seen.append("writes")
            turns.schedule((pause,), "")
            lock.wait_for_writer()  # what it brings in itself
            seen.append("has written")

    turns.run(reads("one"), reads("two"), writes)
    assert seen == ["one reads", "two reads"]
    turns.wake_up(pause)
    turns.run()
    assert seen[2:] == ["one has read", "two has read", "writes"]
    turns.run(reads("three"), writes)
    assert seen[5:] == []
    turns.wake_up(pause)
    turns.run()
    assert seen[5:7] == ["has written", "three reads"]
    turns.wake_up(pause)
    turns.run()
    turns.wake_up(pause)
    turns.run()
    assert seen[7:] == ["three has read", "writes", "has written"]
    assert (lock.readers, lock.writer) == (0, None)
