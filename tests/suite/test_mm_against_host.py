"""Random scripts of memory calls and accesses, run by this machine's kernel and by ours, give the same results.

A script maps, protects, unmaps and forgets parts of an arena of twelve pages, anonymous and of a file, and forks now
and then.  In between it looks: bytes loaded and stored by the program (in a child first, which may die of it), by
system calls, and pages called as code.  ``mm_script.S`` says how.
"""

from __future__ import annotations

import platform
import random
import struct
import subprocess
from enum import IntEnum
from pathlib import Path

import pytest

from sandbox.image.assemble import assemble_source
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.drivers.console import BytesSource
from sandbox.runner.run import Streams, run_program
from sandbox.x86.errors import SandboxError
from tests.campaign import part

SOURCE = Path(__file__).with_name("mm_script.S")
PAGE = 4096
ARENA, PAGES = 0x2000_0000, 12
OWN_FILE = 3
ANONYMOUS, FILE = 0x32, 0x12
"""MAP_PRIVATE | MAP_FIXED, with MAP_ANONYMOUS or without."""
MADV_DONTNEED = 4
PROTECTIONS = (0, 1, 1, 3, 3, 3, 3, 5, 7, 2, 6)
"""Never PROT_EXEC alone: with protection keys such pages cannot be read, on a real machine."""

Row = tuple[int, ...]

pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="the oracle is an x86-64 Linux host"
)


class Op(IntEnum):
    """System calls by number, and the operations of mm_script.S."""

    MUNMAP, MPROTECT, MMAP2, MADVISE = 91, 125, 192, 219
    PROBE, LOAD, STORE, STORE_BY_KERNEL, CALL, FORK, DARE, END = range(0x1000, 0x1008)


WEIGHTS = {
    Op.PROBE: 20, Op.LOAD: 8, Op.STORE: 22, Op.STORE_BY_KERNEL: 10, Op.CALL: 3, Op.FORK: 8,
    Op.MPROTECT: 14, Op.MUNMAP: 8, Op.MMAP2: 9, Op.MADVISE: 4,
}  # fmt: skip


def make_script(number: int, length: int, file_pages: int, with_nx: bool) -> list[Row]:
    """Rows that begin with the whole arena mapped and end with a look at every page."""
    rng = random.Random(number)
    rows: list[Row] = [(Op.MMAP2, ARENA, PAGES * PAGE, 3, ANONYMOUS, 0xFFFFFFFF, 0)]
    branch_ends = 0
    while len(rows) < length:
        op = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        address = ARENA + rng.randrange(PAGES) * PAGE + rng.choice((0, 1, 0x800, 0xFFF))
        first = rng.randrange(PAGES)
        start = ARENA + first * PAGE + (rng.random() < 0.03)
        size = rng.randrange(1, PAGES - first + 1) * PAGE - rng.choice((0, 0, 0, 1, 0xFFF))
        protection = rng.choice(PROTECTIONS)
        match op:
            case Op.STORE | Op.STORE_BY_KERNEL:
                if len(rows) < branch_ends and rng.random() < 0.7:
                    op = Op.DARE
                rows.append((op, address, rng.randrange(1, 256)))
            case Op.PROBE | Op.LOAD:
                rows.append((op, address))
            case Op.CALL if with_nx:
                rows.append((op, address))
            case Op.FORK if len(rows) >= branch_ends:
                rows.append((op, rng.randrange(2, PAGES + 1)))  # it may reach into the looks at the end, not beyond
                branch_ends = len(rows) + rows[-1][1]
            case Op.MPROTECT:
                rows.append((op, start, size, protection))
            case Op.MUNMAP:
                rows.append((op, start, size))
            case Op.MADVISE:
                rows.append((op, start, size, MADV_DONTNEED))
            case Op.MMAP2 if rng.random() < 0.5:
                rows.append((op, start & -PAGE, size, protection, ANONYMOUS, 0xFFFFFFFF, 0))
            case Op.MMAP2:
                rows.append((op, start & -PAGE, size, protection, FILE, OWN_FILE, rng.randrange(file_pages + 2)))
            case _:
                pass
    rows += [(Op.PROBE, ARENA + page * PAGE) for page in range(PAGES)]
    return [*rows, (Op.END,)]


def results(output: bytes) -> list[tuple[int, int]]:
    """(row, result) in the order in which they were reported."""
    return [(row, result) for row, result in struct.iter_unpack("<Ii", output)]


class Pair:
    """The script runner on both kernels."""

    def __init__(self, program: Path) -> None:
        self._path = program
        self._data = program.read_bytes()

    def difference(self, number: int, length: int, switch: str = "") -> str:
        """Run one script on both, on ours perhaps with a step left out; the first difference, or an empty string.

        The number also chooses paging mode and CPUs.
        """
        paging, cpus = ("pae", "legacy")[number % 2], (1, 1, 2, 4)[number // 2 % 4]
        script = make_script(number, length, -(-len(self._data) // PAGE), paging == "pae")
        packed = b"".join(struct.pack("<8I", *row, *[0] * (8 - len(row))) for row in script)
        native = subprocess.run([self._path], input=packed, capture_output=True, timeout=30, check=True)
        switches = frozenset((switch,) if switch else ())
        config = KernelConfig(paging=paging, cpus=cpus, seed=number, time_limit=30, switches=switches)
        try:
            ours = run_program("script", self._data, (), config, Streams(BytesSource(packed)))
        except SandboxError as error:
            return f"script {number}: {error.summary}"
        theirs, here = results(native.stdout), results(ours.stdout)
        for (row, real), (our_row, got) in zip(theirs, here, strict=False):
            if (row, real) != (our_row, got):
                told = [f"{at:3} {Op(each[0]).name} {[hex(n) for n in each[1:]]}" for at, each in enumerate(script)]
                what = f"script {number} ({paging}, {cpus} CPUs), row {row}: {real:#x} on this machine, {got:#x} here"
                return "\n".join([what, *told[: row + 1]])
        if not ours.passed or len(theirs) != len(here):
            return f"script {number}: {ours.headline()} after {len(here)} results of {len(theirs)}"
        return ""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    program = tmp_path_factory.mktemp("scripts") / "script"
    assemble_source(SOURCE, program)
    return Pair(program)


@pytest.mark.parametrize("first", range(0, 40, 8))
def test_scripts(pair: Pair, first: int) -> None:
    for number in range(first, first + 8):
        assert pair.difference(number, 80) == ""


@pytest.mark.slow
@pytest.mark.parametrize("first", part(range(1000, 1200, 25), 2))
def test_many_scripts(pair: Pair, first: int) -> None:
    for number in range(first, first + 25):
        assert pair.difference(number, 140) == ""


@pytest.mark.parametrize(
    "switch",
    ["no-cow", "no-flush", "no-unmap", "no-zero", "no-wp", "no-mprotect-split", "eager-mprotect", "no-file-private",
     "no-eof-check", "no-fixup"],
)  # fmt: skip
def test_a_broken_kernel_does_not_agree(pair: Pair, switch: str) -> None:
    assert any(pair.difference(number, 80, switch) for number in range(40))


def test_every_operation_is_used() -> None:
    seen = {row[0] for number in range(8) for row in make_script(number, 80, 8, True)}
    assert seen == set(Op)
