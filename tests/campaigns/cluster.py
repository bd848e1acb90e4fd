"""A campaign on a local cluster of dask's, one of whose workers is killed on the way: tells what came of it as JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from sandbox.campaign import Item, Ledger, Progress, run
from sandbox.campaign.kinds import image_items
from sandbox.runner.target import resolve

COUNT = 60


def main() -> None:
    """``cluster.py LEDGER kill|whole|images``."""
    from distributed import LocalCluster

    path, how = Path(sys.argv[1]), sys.argv[2]
    work = "tests.campaigns.work"
    items = [Item(f"{number:03}", f"{work}:square", (number, 0.05)) for number in range(COUNT)]
    if how == "images":
        items = image_items([resolve("images/cow-fork"), resolve("images/rom-vm86")])
    killed: list[int] = []
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster:

        def look(progress: Progress) -> None:
            if how == "kill" and not killed and progress.done >= COUNT // 4:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL)

        with Ledger(path, items) as ledger:
            found = run(items, ledger, scheduler=cluster.scheduler_address, progress=look)
    print(json.dumps({"found": found, "killed": len(killed)}))


if __name__ == "__main__":
    main()
