"""A campaign from its items to its last result, by processes of this host or by a scheduler of dask's."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from sandbox.campaign.batch import Crew, end_child, run_batch
from sandbox.campaign.items import Item, Outcome
from sandbox.campaign.ledger import Ledger
from sandbox.records import dataclass

SECONDS = 2.0
"""About what a batch takes: little is lost with it, and results come often."""
LARGEST = 256
AHEAD = 2
"""Batches a worker has waiting."""


@dataclass(slots=True)
class Progress:
    """How far it is.  ``before`` were done when it began; seconds are the host's."""

    before: int
    done: int
    whole: int
    seconds: float

    @property
    def rate(self) -> float:
        """Items a second, of this run."""
        return (self.done - self.before) / self.seconds if self.seconds else 0.0

    @property
    def remaining(self) -> float:
        """Seconds that are left at this rate; infinite before the first result."""
        return (self.whole - self.done) / self.rate if self.rate else float("inf")

    def line(self) -> str:
        """For a terminal."""
        left = "" if self.rate == 0 else f", {self.remaining:.0f} s left"
        return f"{self.done} of {self.whole}, {self.rate:.1f} a second{left}"


def run(
    items: Sequence[Item],
    ledger: Ledger,
    *,
    jobs: int = 1,
    scheduler: str = "",
    progress: Callable[[Progress], object] | None = None,
) -> list[Outcome]:
    """Have all items done that the ledger does not know; all outcomes, in the order of the items.

    ``jobs`` processes of this host, or the workers of the dask scheduler at ``scheduler`` (``tcp://host:port``).
    Whatever ends it, the ledger has what was done; the next call goes on from there.
    """
    left, began = ledger.left(items), time.monotonic()
    before = len(items) - len(left)
    if scheduler:
        from sandbox.campaign.over_dask import over_dask

        batches = over_dask(left, scheduler)
    else:
        batches = _over_processes(left, min(jobs, len(left)))
    done = before
    for outcomes in batches:
        done += sum(ledger.add(each) for each in outcomes)
        if progress is not None:
            progress(Progress(before, done, len(items), time.monotonic() - began))
    return ledger.outcomes()


class Cutter:
    """Cuts items into batches of about ``SECONDS``, by what those before have taken."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items, self._at, self._size = items, 0, 1

    def next(self) -> Sequence[Item]:
        """The next batch; empty at the end."""
        batch = self._items[self._at : self._at + self._size]
        self._at += len(batch)
        return batch

    def took(self, count: int, seconds: float) -> None:
        """A batch of so many items has taken so long; the next may be larger, at most twice as large at a time."""
        wanted = int(count * SECONDS / max(seconds, 1e-3)) or 1
        self._size = max(1, min(wanted, 2 * self._size, LARGEST))

    def stop(self) -> None:
        """Nothing more is wanted."""
        self._at = len(self._items)


def _over_processes(items: Sequence[Item], jobs: int) -> Iterator[list[Outcome]]:
    """By so many threads, each with a process beside it; none is waited for when nobody asks any more."""
    cutter, lock, crew = Cutter(items), threading.Lock(), Crew()
    ready: queue.SimpleQueue[list[Outcome] | BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            while True:
                with lock:
                    batch = cutter.next()
                if not batch:
                    return
                outcomes, seconds = run_batch(batch, crew)
                with lock:
                    cutter.took(len(outcomes), seconds)
                ready.put(outcomes)
        except BaseException as error:
            ready.put(error)
        finally:
            end_child()
            ready.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    for each in threads:
        each.start()
    try:
        yield from _taken(ready, jobs)
    finally:
        with lock:
            cutter.stop()
        crew.stop()
        for each in threads:
            each.join()


def _taken(ready: queue.SimpleQueue[list[Outcome] | BaseException | None], working: int) -> Iterator[list[Outcome]]:
    while working:
        found = ready.get()
        if isinstance(found, BaseException):
            raise found
        if found is None:
            working -= 1
        else:
            yield found
