"""Plain guest code: under the kernel, without it, and on stock Unicorn, which counts nothing.

A program under the kernel is compared with the very code that it ran, run again without it; what that code leaves in
the host's branch predictor is dealt with by ``sandbox.engine.predictor``.  The stock binding is timed when its code is
translated and linked and old branches are forgotten, in a process in which nobody has mended the engine.  Every
repetition is a process with addresses of its own (``python -m benchmarks.loops [stock]``).
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
    turns = [(_process(command), _process([*command, "stock"])) for _ in range(PROCESSES)]
    samples = [mended for mended, _ in turns]
    for name in programs.LOOPS:
        kernel, same = (min(sample[name][variant] for sample in samples) for variant in range(2))
        free = min(stock[name][0] for _, stock in turns)
        share = statistics.median(sample[name][1] / sample[name][0] for sample in samples)
        note = f"{1e3 * kernel:.1f} ms against {1e3 * same:.1f} ms"
        yield Row(f"{name}: kernel against bare", 100 * share, "%", 95, True, note)
        note = f"{1e3 * same:.1f} ms against {1e3 * free:.1f} ms"
        yield Row(f"{name}: with the clock against stock", free / same, "x", 0.85, True, note)
    yield _stores()


def _stores() -> Row:
    program = programs.stores()
    took = interleaved({mode: partial(run_seconds, program, mode) for mode in ("pae", "legacy")}, 5)
    per = 1e9 / programs.STORES
    note = f"{per * took['pae']:.1f} ns against {per * took['legacy']:.1f} ns"
    return Row("stores: PAE against two-level", took["legacy"] / took["pae"], "x", 5, True, note)


def _process(command: list[str]) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return taken


def _sample(stock: bool) -> dict[str, tuple[float, ...]]:
    """Processor seconds of each loop: under the kernel and its code again without, or on the stock binding."""
    built = {name: programs.loop(name) for name in programs.LOOPS}
    if stock:
        return {name: (StockLoop(program).seconds(),) for name, program in built.items()}
    return {name: kernel_and_bare_seconds(program) for name, program in built.items()}


if __name__ == "__main__":
    print(json.dumps(_sample(sys.argv[1:] == ["stock"])))
