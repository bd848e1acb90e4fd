"""Plain guest code: under the kernel, on bare Unicorn with the clock's hook, and without any."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import programs
from benchmarks.bare import StockLoop
from benchmarks.kernelrun import run_seconds
from benchmarks.measure import Row, interleaved


def rows() -> Iterator[Row]:
    for name in programs.LOOPS:
        program = programs.loop(name)
        hooked, free = StockLoop(program, True), StockLoop(program, False)
        took = interleaved(
            {"kernel": lambda program=program: run_seconds(program), "hooked": hooked.seconds, "free": free.seconds}
        )
        yield Row(
            f"{name}: kernel against bare", 100 * took["hooked"] / took["kernel"], "%", 95, True,
            f"{1e3 * took['kernel']:.1f} ms against {1e3 * took['hooked']:.1f} ms",
        )  # fmt: skip
        yield Row(f"{name}: hook against none", 100 * took["free"] / took["hooked"], "%")
    program = programs.stores()
    took = interleaved({mode: lambda mode=mode: run_seconds(program, mode) for mode in ("pae", "legacy")}, 5)
    per = 1e9 / programs.STORES
    yield Row(
        "stores: PAE against two-level", took["legacy"] / took["pae"], "x", 5, True,
        f"{per * took['pae']:.1f} ns against {per * took['legacy']:.1f} ns",
    )  # fmt: skip
