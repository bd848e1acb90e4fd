"""This host's CPU as an oracle, by a 32-bit runner (``native/runner.c``) that gcc makes when it is first asked for."""

from __future__ import annotations

import functools
import hashlib
import mmap
import os
import select
import subprocess
import tempfile
from pathlib import Path

from sandbox.semantics import wire
from sandbox.semantics.vector import CODE_PAGES, SLOTS, Result, Vector, arena
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SIZE

_NATIVE = Path(__file__).parent / "native"
SOURCE = _NATIVE / "runner.c"
_GCC = (
    "gcc", "-m32", "-static", "-nostdlib", "-ffreestanding", "-O2", "-mgeneral-regs-only", "-fno-stack-protector",
    "-fno-pic", "-no-pie", "-Wl,-Ttext-segment=0x50000000",
    "-fno-builtin", "-fcf-protection=none", "-w",
)  # fmt: skip
PATIENCE = 60.0
"""Seconds for a batch; a vector that does not end is told by the runner after half a second."""


class NoHost(SandboxError):
    """This host cannot execute 32-bit code, or cannot build what does."""

    exit_status = 2


class RunnerDied(SandboxError):
    """A vector took the runner down."""

    exit_status = 3

    def __init__(self, vector: Vector, status: int) -> None:
        super().__init__(
            f"the runner died of {vector.form}: {vector.code.hex(' ')}",
            f"status {status}; registers {' '.join(f'{each:08x}' for each in vector.registers)}",
        )
        self.vector, self._status = vector, status

    def __reduce__(self) -> tuple[type[RunnerDied], tuple[Vector, int]]:
        """As it travels from the process of a campaign."""
        return RunnerDied, (self.vector, self._status)


@functools.cache
def build() -> Path:
    """The runner, kept in the user's folder of caches by its source.  Raises NoHost."""
    source = b"".join(each.read_bytes() for each in (*sorted(_NATIVE.glob("*.h")), SOURCE))
    name = f"semantics-{hashlib.sha256(source + ' '.join(_GCC).encode()).hexdigest()[:16]}"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sandbox"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir())
    made = folder / name
    if not made.exists():
        _compile(made)
    return made


def _compile(made: Path) -> None:
    """By way of a file of its own: another process may be doing the same."""
    part = made.with_name(f"{made.name}.{os.getpid()}")
    try:
        subprocess.run([*_GCC, "-o", part, SOURCE], check=True, capture_output=True, timeout=60)
        part.rename(made)
    except FileNotFoundError as error:
        raise NoHost("the host's CPU needs gcc, which is not there", "apt-get install gcc; or --corpus FILE") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise NoHost("the host's CPU needs a gcc that makes 32-bit programs", str(error)) from error


class HostCpu:
    """The host's CPU.  A vector that takes the runner down raises RunnerDied; the next batch has a new one.

    Raises NoHost.
    """

    name = "host"

    def __init__(self) -> None:
        self._shared_file = os.memfd_create("semantics")
        self._code_file = os.memfd_create("semantics-code")
        os.ftruncate(self._shared_file, wire.SHARED)
        os.ftruncate(self._code_file, CODE_PAGES * PAGE_SIZE)
        self._shared = mmap.mmap(self._shared_file, wire.SHARED)
        self._process: subprocess.Popen[bytes] | None = None
        self.low = True
        """The arena's LOW area could be mapped."""
        self._start()

    def run(self, vectors: list[Vector]) -> list[Result]:
        """Results in order, whatever their number."""
        results: list[Result] = []
        while len(results) < len(vectors):
            results += self._batch(vectors[len(results) : len(results) + SLOTS])
        return results

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None
        self._shared.close()
        os.close(self._shared_file)
        os.close(self._code_file)

    def _batch(self, vectors: list[Vector]) -> list[Result]:
        packed = b"".join(map(wire.pack_vector, vectors))
        assert len(packed) <= wire.OUTPUT - wire.INPUT
        self._shared[wire.INPUT : wire.INPUT + len(packed)] = packed
        return self.execute(vectors, len(vectors))

    def execute(self, vectors: list[Vector], count: int) -> list[Result]:
        """Run what lies in shared memory; as many results as were done."""
        done = self.start_batch(count)
        if done is None:
            died = vectors[self._word(1)]
            raise RunnerDied(died, self._bury())
        data = self._shared[wire.OUTPUT : wire.OUTPUT + self._word(3)]
        return list(wire.unpack_results(data, done))

    def start_batch(self, count: int) -> int | None:
        """Vectors done of those in shared memory, or None: the runner is dead or stuck."""
        if self._process is None:
            self._start()
        assert self._process is not None and self._process.stdin is not None
        self._shared[:4] = count.to_bytes(4, "little")
        self._process.stdin.write(b"g")
        self._process.stdin.flush()
        return self._word(1) if self._answer() else None

    def cpu_seconds(self) -> float:
        """What the runner has used of a CPU, in the kernel's ticks (proc(5), stat: utime and stime)."""
        assert self._process is not None
        words = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def _word(self, number: int) -> int:
        return int.from_bytes(self._shared[4 * number : 4 * number + 4], "little")

    def _answer(self) -> bytes:
        assert self._process is not None and self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        return os.read(self._process.stdout.fileno(), 1) if ready else b""

    def _bury(self) -> int:
        process, self._process = self._process, None
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.kill()
        process.stdin.close()
        process.stdout.close()
        return process.wait()

    def _start(self) -> None:
        base = arena()
        self._shared[wire.BASE : wire.BASE + len(base)] = base
        try:
            self._process = subprocess.Popen(
                [str(build()), str(self._shared_file), str(self._code_file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(self._shared_file, self._code_file),
            )
        except OSError as error:
            raise NoHost("this host does not execute 32-bit programs", error.strerror or "") from error
        hello = self._answer()
        if not hello:
            raise NoHost("this host does not execute 32-bit programs", f"the runner ended with {self._bury()}")
        self.low = hello == b"\1"
