"""gdb's `stepi` on one ROM: under the sandbox, and under `qemu-system-i386 -s`, in the same run, by turns."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks.measure import Row

ROM, ENTRY = "rom-stale-tlb", 0x100000
FEW, MANY = 50, 550
"""Steps of two sessions; what the second takes longer is that of the steps between."""
ROUNDS = 3
Way = Callable[[], AbstractContextManager[str]]
"""Starts a stub, and says where it listens."""


def rows() -> Iterator[Row]:
    missing = [name for name in ("gdb", "qemu-system-i386") if not shutil.which(name)]
    if missing:
        print(f"gdb's stepi beside QEMU is left out: no {' and no '.join(missing)} here", file=sys.stderr)
        return
    ways = {"sandbox": _sandbox, "qemu": _qemu}
    took = {name: float("inf") for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            took[name] = min(took[name], (_session(way, MANY) - _session(way, FEW)) / (MANY - FEW))
    note = f"{1e6 * took['sandbox']:.0f} µs against {1e6 * took['qemu']:.0f} µs"
    yield Row("gdb's stepi: sandbox against qemu-system-i386", took["sandbox"] / took["qemu"], "x", note=note)


def _session(way: Way, steps: int) -> float:
    """Host seconds of a whole gdb session with so many single steps from the ROM's first instruction on."""
    with way() as where:
        to_entry = [f"hbreak *{ENTRY:#x}", "continue", "delete"] if way is _qemu else []
        commands = ["set tcp connect-timeout 10", f"target remote {where}", *to_entry, f"stepi {steps}", "kill"]
        began = time.perf_counter()
        told = subprocess.run(
            ["gdb", "-nx", "-batch", *(word for each in commands for word in ("-ex", each))],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        took = time.perf_counter() - began
    if told.returncode or "error" in told.stderr.lower():
        raise RuntimeError(f"gdb: {told.stderr.strip()}")
    return took


@contextmanager
def _sandbox() -> Iterator[str]:
    command = [sys.executable, "-m", "sandbox", "gdb", f"images/{ROM}", "--port", "0", "--once"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        lines = (line.split()[-1] for line in process.stdout if line.startswith("gdb: target remote"))
        yield next(lines)
        process.kill()


@contextmanager
def _qemu() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        where = f"127.0.0.1:{free.getsockname()[1]}"
    words = "-cpu qemu64 -accel tcg -display none -serial null -monitor none -S".split()
    rom = Path("images") / ROM / f"{ROM}.bin"
    command = ["qemu-system-i386", "-kernel", str(rom), *words, "-gdb", f"tcp:{where}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield where
        process.kill()
