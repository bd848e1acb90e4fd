"""The same over hosts: batches go to the workers of a dask scheduler, each does them in a child of its own.

A worker that is lost loses its batches to others (dask gives them again); a batch that several workers have died of is
cut into its items, and an item that they still die of is told as that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sandbox.campaign.batch import run_batch
from sandbox.campaign.items import Item, Outcome, died
from sandbox.campaign.run import AHEAD, Cutter
from sandbox.x86.errors import SandboxError

CONNECT = "5s"


class NoScheduler(SandboxError):
    """dask is not installed, or nobody answers at the scheduler's address."""

    exit_status = 2


def over_dask(items: Sequence[Item], scheduler: str) -> Iterator[list[Outcome]]:
    """Outcomes batch by batch, as they come.  Raises NoScheduler."""
    client = _client(scheduler)
    try:
        yield from _batches(client, items)
    finally:
        client.close()


def _client(scheduler: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise NoScheduler("dask.distributed is not installed", "pip install dask distributed") from None
    try:
        return Client(scheduler, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise NoScheduler(f"{scheduler}: no scheduler answers: {str(error).splitlines()[0]}") from error


def _batches(client: Any, items: Sequence[Item]) -> Iterator[list[Outcome]]:
    from distributed import as_completed

    cutter, sent = Cutter(items), dict[Any, Sequence[Item]]()
    coming = as_completed(loop=client.loop)

    def send(batch: Sequence[Item]) -> None:
        future = client.submit(run_batch, batch, pure=False)
        sent[future] = batch
        coming.add(future)

    def fill() -> None:
        while len(sent) < AHEAD * max(sum(client.nthreads().values()), 1) and (batch := cutter.next()):
            send(batch)

    fill()
    for future in coming:
        batch = sent.pop(future)
        try:
            outcomes, seconds = future.result()
        except Exception as error:
            if type(error).__name__ != "KilledWorker":
                raise
            if len(batch) == 1:
                yield [died(batch[0], "the workers that had it are gone")]
            else:
                for item in batch:
                    send([item])
        else:
            cutter.took(len(outcomes), seconds)
            yield outcomes
        fill()
