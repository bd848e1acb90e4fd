"""The runner as a program alone with a kernel: this host's, and the sandbox's in each paging mode.

It is the same file (``native/runner.c``), with its vectors on standard input and the results on standard output: what
brings their pages is the kernel's own handling of faults, demand-zero, copy on write and file pages.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from sandbox.engine import mends
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.drivers.console import BytesSource
from sandbox.records import replace
from sandbox.runner.run import Session
from sandbox.runner.session import Streams
from sandbox.semantics import wire
from sandbox.semantics.host import PATIENCE, NoHost, RunnerDied, build
from sandbox.semantics.vector import Result, Vector

BATCH = 256
"""Vectors of one program's life."""
PAGING = ("legacy", "pae")
_PAGE_FAULT, _FETCH = 14, 0x10
Run = Callable[[bytes], tuple[int, bytes]]
"""Of standard input: how the program ended (0: well), its output."""


class _ProgramCpu:
    """Vectors by a program: batch by batch, each in a new process.  Raises RunnerDied."""

    def __init__(self, name: str, runs: tuple[Run, ...]) -> None:
        self.name, self._runs = name, runs

    def run(self, vectors: list[Vector]) -> list[Result]:
        """Results in order.  With more than one way to run a program, they take turns."""
        results: list[Result] = []
        for number, first in enumerate(range(0, len(vectors), BATCH)):
            way = number % len(self._runs)
            results += self._results(way, self._batch(vectors[first : first + BATCH], self._runs[way]))
        return results

    def _results(self, number: int, results: list[Result]) -> list[Result]:
        """Of a batch, by the number of the way in which it was run."""
        return results

    def close(self) -> None:
        """Nothing is kept."""

    def _batch(self, vectors: list[Vector], run: Run) -> list[Result]:
        """Halves of one that takes the program down, until it is known which vector did."""
        packed = len(vectors).to_bytes(4, "little") + b"".join(map(wire.pack_vector, vectors))
        status, output = run(packed)
        done = int.from_bytes(output[:4], "little")
        if status == 0 and done:
            results = list(wire.unpack_results(output[4:], done))
            return results if done == len(vectors) else results + self._batch(vectors[done:], run)
        if len(vectors) == 1:
            raise RunnerDied(vectors[0], status)
        half = len(vectors) // 2
        return self._batch(vectors[:half], run) + self._batch(vectors[half:], run)


class HostProgram(_ProgramCpu):
    """Under the kernel of this host.  Raises NoHost."""

    def __init__(self) -> None:
        build()
        super().__init__("host", (_natively,))


class KernelProgram(_ProgramCpu):
    """Under the sandbox's kernel, in turn with two levels of tables and with PAE.  Raises NoHost."""

    def __init__(self, paging: tuple[str, ...] = PAGING, switches: frozenset[str] = frozenset()) -> None:
        program = build().read_bytes()

        def under(mode: str) -> Run:
            config = KernelConfig(paging=mode, switches=switches)
            return lambda data: _under_the_kernel(program, config, data)

        super().__init__(f"sandbox ({mends.chosen()}), {' and '.join(paging)}", tuple(map(under, paging)))
        self._paging = paging

    def _results(self, number: int, results: list[Result]) -> list[Result]:
        return [with_fetch(each) for each in results] if self._paging[number] == "legacy" else results


def with_fetch(result: Result) -> Result:
    """With I/D in the error codes of its fetches, as without NXE the CPU does not tell (SDM 3A, 4.7)."""
    fault = result.fault
    if (
        fault is not None
        and fault.vector == _PAGE_FAULT
        and not fault.error & 2
        and 0 <= fault.address - result.eip < 15
    ):
        result = replace(result, fault=replace(fault, error=fault.error | _FETCH))
    return replace(result, restarts=tuple(map(with_fetch, result.restarts)))


def _natively(data: bytes) -> tuple[int, bytes]:
    try:
        ended = subprocess.run([str(build())], input=data, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return 255, b""
    except OSError as error:
        raise NoHost("this host does not execute 32-bit programs", error.strerror or "") from error
    return ended.returncode, ended.stdout


def _under_the_kernel(program: bytes, config: KernelConfig, data: bytes) -> tuple[int, bytes]:
    with Session("runner", program, [], config, Streams(BytesSource(data))) as session:
        result = session.finish()
    return (result.status or result.signal or (255 if result.error else 0)), result.stdout
