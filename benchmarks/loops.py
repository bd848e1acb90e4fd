"""Plain guest code: under the kernel, on bare Unicorn with the clock's hook, and without any.

A program under the kernel is compared with the very code that it ran, run again without it; what that code leaves in
the host's branch predictor is dealt with by ``sandbox.engine.predictor``.  The two bare runs on the stock binding are
timed when their code is translated and linked and old branches are forgotten.  Every repetition is a process with
addresses of its own (``python -m benchmarks.loops``).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks import programs
from benchmarks.bare import StockLoop
from benchmarks.kernelrun import kernel_and_bare_seconds, run_seconds
from benchmarks.measure import Row, interleaved

PROCESSES = 5


def rows() -> Iterator[Row]:
    command = [sys.executable, *(["-P"] if sys.flags.safe_path else []), "-m", "benchmarks.loops"]
    samples = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(PROCESSES)]
    for name in programs.LOOPS:
        kernel, same, hooked, free = (min(sample[name][variant] for sample in samples) for variant in range(4))
        share = statistics.median(sample[name][1] / sample[name][0] for sample in samples)
        note = f"{1e3 * kernel:.1f} ms against {1e3 * same:.1f} ms"
        yield Row(f"{name}: kernel against bare", 100 * share, "%", 95, True, note)
        yield Row(f"{name}: hook against none", 100 * free / hooked, "%")
    yield _stores()


def _stores() -> Row:
    program = programs.stores()
    took = interleaved({mode: partial(run_seconds, program, mode) for mode in ("pae", "legacy")}, 5)
    per = 1e9 / programs.STORES
    note = f"{per * took['pae']:.1f} ns against {per * took['legacy']:.1f} ns"
    return Row("stores: PAE against two-level", took["legacy"] / took["pae"], "x", 5, True, note)


def _sample() -> dict[str, tuple[float, float, float, float]]:
    """Processor seconds of each loop: under the kernel, its code again without, bare with the hook, bare without."""
    taken = {}
    for name in programs.LOOPS:
        program = programs.loop(name)
        taken[name] = (
            *kernel_and_bare_seconds(program),
            StockLoop(program, True).seconds(),
            StockLoop(program, False).seconds(),
        )
    return taken


if __name__ == "__main__":
    print(json.dumps(_sample()))
