"""Ordinary Linux programs: against this host, and where their time goes; system calls and faults a second."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import programs
from benchmarks.bare import BareCpu
from benchmarks.kernelrun import marked_seconds, run_seconds
from benchmarks.measure import Row, interleaved, seconds
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import Session
from sandbox.runner.shares import Shares, measure

ROOT = Path(__file__).resolve().parents[1] / "build" / "programs"
ENVIRONMENT = ("PATH=/bin:/usr/bin:/sbin", "TZ=UTC")
CALLS, CALL_ROUNDS = 200_000, 5
GETPID_BAR = 2.6
"""Bare traps that a getpid may take."""
PROGRAMS = {
    "busybox echo": ("/bin/busybox", "echo", "hello"),
    "busybox pipeline": ("/bin/busybox", "sh", "-c", "seq 1 500 | grep 7 | sort -r | head -n 3"),
    "seq 1 100000 | md5sum": ("/bin/busybox", "sh", "-c", "seq 1 100000 | md5sum"),
    "bash, 10 subshells": ("/bin/bash-static", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do (exit $i); done"),
    "tcc -run": ("/usr/bin/tcc", "-run", "/etc/hello.c", "x"),
}


def rows() -> Iterator[Row]:
    yield from _calls()
    zero = programs.demand_zero()
    fault = statistics.median(statistics.median(marked_seconds(zero)[1:]) for _ in range(3)) / programs.PAGES
    yield Row("page faults: demand-zero", 1e-3 / fault, "k/s")
    for name, argv in PROGRAMS.items():
        if not (ROOT / argv[0].lstrip("/")).exists():
            print(f"{name}: not measured, `make programs` brings it", file=sys.stderr)
            continue
        took = interleaved({"sandbox": lambda argv=argv: _run(argv), "host": lambda argv=argv: _native(argv)}, 5)  # type: ignore[misc]
        shares = _shares(argv)
        yield Row(f"{name}: against this host", took["sandbox"] / took["host"], "x", note=_times(took))
        yield Row(f"{name}: against its engine time", shares.whole / shares.ring3, "x", note=str(shares))


def _times(took: dict[str, float]) -> str:
    return f"{1e3 * took['sandbox']:.1f} ms against {1e3 * took['host']:.1f} ms"


def _calls() -> Iterator[Row]:
    """getpid, and the same INT 0x80 with nobody to answer it; the smallest of each, by turns."""
    program = programs.build(f"mov esi, {CALLS}\n1: mov eax, 20\nint 0x80\ndec esi\njnz 1b\n")
    bare = BareCpu(program)
    pairs = [(run_seconds(program), bare.calling_seconds()) for _ in range(CALL_ROUNDS)]
    call, trap = (min(taken) / CALLS for taken in zip(*pairs, strict=True))
    yield Row("system calls: getpid", 1e-3 / call, "k/s")
    note = f"{1e6 * call:.2f} µs against {1e6 * trap:.2f} µs"
    yield Row("calls: getpid against the bare trap", call / trap, "x", GETPID_BAR, note=note)


def _session(argv: Sequence[str], program: bytes) -> Session:
    config = KernelConfig(root=ROOT if ROOT.exists() else None, environment=ENVIRONMENT, time_limit=0)
    return Session(argv[0], program, tuple(argv[1:]), config)


def _run(argv: Sequence[str]) -> float:
    """Seconds in process, from machine creation to the result."""
    program = (ROOT / argv[0].lstrip("/")).read_bytes()
    began = time.perf_counter()
    with _session(argv, program) as session:
        result = session.finish()
    took = time.perf_counter() - began
    if result.error or result.signal:
        raise RuntimeError(f"{argv[0]}: {result.headline()}")
    return took


def _native(argv: Sequence[str]) -> float:
    """Seconds of the same command on this host: in the root directory if this user may, else as it lies there."""
    enter = ["/usr/sbin/chroot", str(ROOT)]
    command = [*enter, *argv]
    return (
        seconds(
            lambda: subprocess.run(
                command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        )
        - _empty()
    )


def _empty() -> float:
    """Seconds that starting a process from here takes."""
    return seconds(lambda: subprocess.run(["/bin/true"], check=False))


def _shares(argv: Sequence[str]) -> Shares:
    """One run with a clock around the engine."""
    shares = Shares()
    program = (ROOT / argv[0].lstrip("/")).read_bytes()
    began = time.perf_counter()
    with _session(argv, program) as session:
        measure(session.kernel, shares)
        session.finish()
    shares.whole = time.perf_counter() - began
    return shares
