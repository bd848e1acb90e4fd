"""Vectors by the thousand over processes: what was done is kept, so that a run can be cut anywhere and gone on with."""

from __future__ import annotations

import functools
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any, Protocol

from sandbox.engine import mends
from sandbox.records import asdict, dataclass, field
from sandbox.semantics import generate, modes, pages, processor, restarts, selfmod
from sandbox.semantics.compare import Divergence, compare, listed_causes
from sandbox.semantics.corpus import Corpus
from sandbox.semantics.emulated import SandboxCpu
from sandbox.semantics.host import HostCpu
from sandbox.semantics.program import HostProgram, KernelProgram
from sandbox.semantics.serial import divergence_from_dict, divergence_to_dict
from sandbox.semantics.shrink import shrink
from sandbox.semantics.vector import Oracle, Result, Vector
from sandbox.x86.errors import ConfigurationError, SandboxError

CHUNK = 2048
"""Vectors between two looks at the clock, and lost when a run is cut."""
_KEPT = 2
"""Vectors kept of each way to differ."""


class BadState(SandboxError):
    """A file to go on from is not one, or is of another run."""

    exit_status = 2


Chunk = tuple[str, int, int]
"""Family or file, first vector, vectors."""


class Work(Protocol):
    """What is done chunk by chunk, in any process; a dataclass, whose fields tell a state's file what it is of."""

    def chunks(self) -> list[Chunk]: ...

    def do(self, chunk: Chunk) -> Tally: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: ``count`` vectors of each family."""

    families: tuple[str, ...]
    seed: int
    count: int
    engine: str

    def chunks(self) -> list[Chunk]:
        """Family, first vector, vectors."""
        return [
            (family, first, min(CHUNK, self.count - first))
            for family in self.families
            for first in range(0, self.count, CHUNK)
        ]

    def do(self, chunk: Chunk) -> Tally:
        return run_chunk(self.seed, chunk)


@dataclass(slots=True)
class Tally:
    """Of chunks: vectors by form, divergences by (form, parts, cause), some of them whole, seconds by side."""

    vectors: Counter[str] = field(default_factory=Counter)
    ways: Counter[tuple[str, tuple[str, ...], str]] = field(default_factory=Counter)
    kept: dict[tuple[str, tuple[str, ...], str], list[Divergence]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def note(self, divergence: Divergence) -> None:
        way = (divergence.vector.form, divergence.parts, divergence.cause)
        self.ways[way] += 1
        kept = self.kept.setdefault(way, [])
        if len(kept) < _KEPT:
            kept.append(divergence)

    def spend(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def add(self, other: Tally) -> None:
        self.vectors += other.vectors
        self.ways += other.ways
        for name, seconds in other.seconds.items():
            self.spend(name, seconds)
        for way, divergences in other.kept.items():
            kept = self.kept.setdefault(way, [])
            kept += divergences[: _KEPT - len(kept)]

    @property
    def new(self) -> int:
        """Vectors with a divergence that is not listed."""
        return sum(count for (_, _, cause), count in self.ways.items() if not cause)

    def unseen(self, engine: str) -> list[str]:
        """Causes that are listed for this host and engine, and that no vector has shown."""
        seen = {cause for _, _, cause in self.ways}
        return [cause for cause in listed_causes(engine) if cause not in seen]

    def to_dict(self) -> dict[str, Any]:
        return {
            "vectors": dict(self.vectors),
            "seconds": self.seconds,
            "ways": [
                {"count": count, "kept": [divergence_to_dict(each) for each in self.kept[way]]}
                for way, count in self.ways.items()
            ],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Tally:
        made = cls(Counter(data["vectors"]), seconds=data["seconds"])
        for each in data["ways"]:
            kept = [divergence_from_dict(one) for one in each["kept"]]
            way = (kept[0].vector.form, kept[0].parts, kept[0].cause)
            made.ways[way], made.kept[way] = each["count"], kept
        return made


class State:
    """The file of a run: a line with the plan, then a line a chunk."""

    def __init__(self, path: Path | None, plan: Work) -> None:
        self.path, self._plan = path, plan
        self.done: dict[Chunk, Tally] = {}
        if path is not None and path.exists():
            self._read(path)
        elif path is not None:
            _append(path, json.dumps(self._head()) + "\n")

    def finish(self, chunk: Chunk, tally: Tally) -> None:
        self.done[chunk] = tally
        if self.path is not None:
            _append(self.path, self._line(chunk, tally))

    def save(self, path: Path) -> None:
        """All of it, where no file was kept."""
        lines = [self._line(chunk, tally) for chunk, tally in self.done.items()]
        _append(path, json.dumps(self._head()) + "\n" + "".join(lines))

    def total(self) -> Tally:
        """The chunks together, in the plan's order whatever the order in which they were done."""
        made = Tally()
        for chunk in self._plan.chunks():
            if chunk in self.done:
                made.add(self.done[chunk])
        return made

    def _line(self, chunk: Chunk, tally: Tally) -> str:
        return json.dumps({"chunk": list(chunk), **tally.to_dict()}) + "\n"

    def _head(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self._plan)))  # type: ignore[call-overload, no-any-return]

    def _read(self, path: Path) -> None:
        """A last line that was cut off is left out."""
        if not path.is_file():
            raise BadState(f"{path}: not a regular file")
        try:
            head, *lines = path.read_text().split("\n")
            if json.loads(head) != self._head():
                raise BadState(f"{path}: is of a run with other options", head)
            for line in lines[:-1]:
                data = json.loads(line)
                self.done[tuple(data["chunk"])] = Tally.from_dict(data)
            path.write_text("\n".join([head, *lines[:-1], ""]))
        except (ValueError, KeyError, TypeError, IndexError, OSError) as error:
            raise BadState(f"{path}: is not the state of a run", str(error)) from error


def _append(path: Path, text: str) -> None:
    """Raises BadState."""
    try:
        with path.open("a") as file:
            file.write(text)
    except OSError as error:
        raise BadState(f"{path}: {error.strerror}") from error


_oracles: dict[int, tuple[HostCpu, SandboxCpu]] = {}
_programs: dict[int, tuple[HostProgram, KernelProgram]] = {}
"""By process: what a fork brings along is its parent's, runner and all, and is left alone."""


def oracles() -> tuple[HostCpu, SandboxCpu]:
    """This process's, made once and kept warm."""
    made = _oracles.get(os.getpid())
    if made is None:
        host = HostCpu()
        made = _oracles[os.getpid()] = host, SandboxCpu(host.low)
    return made


def programs() -> tuple[HostProgram, KernelProgram]:
    """The same for vectors whose pages a kernel brings."""
    made = _programs.get(os.getpid())
    if made is None:
        made = _programs[os.getpid()] = HostProgram(), KernelProgram()
    return made


def _pair(vectors: list[Vector]) -> tuple[Oracle, Oracle]:
    return programs() if any(map(pages.needs_kernel, vectors)) else oracles()


_DRAWN: dict[str, Callable[[str, int, int, int], Iterator[Vector]]] = {
    restarts.SUFFIX: restarts.vectors,
    pages.SUFFIX: pages.vectors,
    **{mode: functools.partial(modes.vectors, mode) for mode in modes.MODES},
}


def drawn(family: str, seed: int, first: int, count: int) -> Iterator[Vector]:
    """Vectors of a family, or of one with a suffix behind its name."""
    if family == selfmod.FAMILY:
        return selfmod.vectors(family, seed, first, count)
    name, dash, suffix = family.partition("-")
    draw = _DRAWN.get(dash + suffix, generate.vectors)
    return draw(name, seed, first, count)


def run_chunk(seed: int, chunk: Chunk) -> Tally:
    """Make, execute by both, compare."""
    family, first, count = chunk
    began = time.perf_counter()
    vectors = list(drawn(family, seed, first, count))
    tally = Tally()
    tally.spend("making", time.perf_counter() - began)
    host, ours = _pair(vectors)
    judge(vectors, timed(host.run, vectors, tally, "host"), timed(ours.run, vectors, tally, "sandbox"), tally)
    return tally


def timed(run: Callable[[list[Vector]], list[Result]], vectors: list[Vector], tally: Tally, name: str) -> list[Result]:
    began = time.perf_counter()
    results = run(vectors)
    tally.spend(name, time.perf_counter() - began)
    return results


def judge(vectors: list[Vector], theirs: list[Result], ours: list[Result], tally: Tally, vendor: str = "") -> None:
    """Compare pairwise into a tally; ``vendor`` of who gave theirs ('': this host's)."""
    began = time.perf_counter()
    vendor = vendor or processor.this_host().vendor
    for vector, one, other in zip(vectors, theirs, ours, strict=True):
        tally.vectors[vector.form] += 1
        if one != other:
            divergence = compare(vector, one, other, vendor, mends.chosen())
            if divergence is not None:
                tally.note(divergence)
    tally.spend("comparing", time.perf_counter() - began)


def run(plan: Work, state: State, jobs: int) -> Iterator[int]:
    """Do what is not done, telling the vectors of each finished chunk; cut it by closing the iterator."""
    left = [chunk for chunk in plan.chunks() if chunk not in state.done]
    if jobs == 1:
        for chunk in left:
            state.finish(chunk, plan.do(chunk))
            yield chunk[2]
        return
    yield from _spread(plan, state, left, jobs)


def _spread(plan: Work, state: State, left: list[Chunk], jobs: int) -> Iterator[int]:
    pool = ProcessPoolExecutor(jobs, initializer=_leave_interrupts)
    try:
        running: dict[Future[Tally], Chunk] = {}
        while left or running:
            while left and len(running) < 2 * jobs:
                chunk = left.pop(0)
                running[pool.submit(plan.do, chunk)] = chunk
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                chunk = running.pop(future)
                state.finish(chunk, future.result())
                yield chunk[2]
        pool.shutdown()  # else the interpreter, as it ends, may write to a pipe that the pool's thread closes (3.11)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _leave_interrupts() -> None:
    """Ctrl-C goes to all processes of the terminal; the first of them decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def record(plan: Plan) -> Corpus:
    """The plan's vectors with what this host's CPU makes of them."""
    if any(family.endswith(pages.SUFFIX) for family in plan.families):
        raise ConfigurationError(f"families with {pages.SUFFIX} are not recorded: they need a kernel on both sides")
    host = HostCpu()
    try:
        vectors = [
            vector for family, first, count in plan.chunks() for vector in drawn(family, plan.seed, first, count)
        ]
        return Corpus(processor.this_host(), plan.seed, vectors, host.run(vectors))
    finally:
        host.close()


def replay(corpus: Corpus) -> Tally:
    """The sandbox against what was recorded."""
    tally, ours = Tally(), SandboxCpu()
    try:
        results = timed(ours.run, corpus.vectors, tally, "sandbox")
    finally:
        ours.close()
    judge(corpus.vectors, corpus.results, results, tally, corpus.processor.vendor)
    return tally


def smallest(divergence: Divergence) -> Divergence:
    """A smaller one that differs in the same parts, by asking both CPUs again."""
    host, ours = _pair([divergence.vector])
    vendor, engine = processor.this_host().vendor, mends.chosen()

    def ask(vector: Vector) -> Divergence | None:
        return compare(vector, host.run([vector])[0], ours.run([vector])[0], vendor, engine)

    def differs(vector: Vector) -> tuple[str, ...]:
        found = ask(vector)
        return found.parts if found else ()

    if differs(divergence.vector) != divergence.parts:
        return divergence
    return ask(shrink(divergence.vector, differs)) or divergence
