"""Watchpoints: the host code against its source, and stops against what SDM volume 2 says that instructions access."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.engine import stubs, watch
from sandbox.engine.exits import Halt, Stepped, Watched
from sandbox.engine.watch import READ, WRITE, NoWatch, Watches
from tests.engine.board import CODE, DATA, Board

SOURCE = Path(watch.__file__).parent / "native" / "watch.S"
PAGE = DATA + 0x1000
pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="watchpoints are x86-64 Linux code")


@pytest.fixture(params=[False, True], ids=["two-level", "PAE"])
def board(request: pytest.FixtureRequest) -> Iterator[Board]:
    made = Board(pae=request.param)
    yield made
    Watches([made.cpu]).clear()
    made.cpu.close()


@pytest.mark.skipif(not shutil.which("as"), reason="no GNU as")
def test_bytes_are_the_sources(tmp_path: Path) -> None:
    subprocess.run(["as", "--64", "-o", "w.o", str(SOURCE)], cwd=tmp_path, check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", "w.o", "w.bin"], cwd=tmp_path, check=True)
    table = subprocess.run(["nm", "w.o"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    labels = {name: int(value, 16) for value, kind, name in map(str.split, table.splitlines()) if kind == "t"}
    assert (tmp_path / "w.bin").read_bytes()[: labels["end_of_code"]] == watch.CODE
    assert {name: labels[name] for name in watch.OFFSETS} == watch.OFFSETS
    fields = {name: 4096 + getattr(watch.Data, name).offset for name, *_ in watch.Data._fields_}
    assert fields == {name: labels[name] for name in fields}
    assert 4096 + ctypes.sizeof(watch.Data) == (tmp_path / "w.bin").stat().st_size


CASES = [
    ("mov eax, [{0}+0x10]", (0x10, 0x14, READ), [(0x10, 4, False)]),
    ("mov dword ptr [{0}+0x10], 7", (0x13, 0x14, WRITE), [(0x10, 4, True)]),
    ("mov dword ptr [{0}+0x10], 7", (0x14, 0x15, WRITE), []),
    ("mov dword ptr [{0}+0x10], 7", (0x10, 0x14, READ), []),
    ("mov dword ptr [{0}+0x11], 7", (0x14, 0x15, WRITE), [(0x11, 4, True)]),
    ("mov dword ptr [{0}+0x11], 7", (0x0, 0x11, WRITE), []),
    ("add dword ptr [{0}+0x10], 7", (0x10, 0x11, READ | WRITE), [(0x10, 4, False)]),
    ("push dword ptr [{0}+0x20]", (0x20, 0x21, READ | WRITE), [(0x20, 4, False)]),
]


@pytest.mark.parametrize(("text", "range_", "wanted"), CASES)
def test_stops_before_the_access(
    board: Board, text: str, range_: tuple[int, int, int], wanted: list[tuple[int, int, bool]]
) -> None:
    board.load(f"nop\n{text.format(PAGE)}\nhlt", ring=0)
    first, end, flags = range_
    watches = Watches([board.cpu])
    before = bytes(board.memory)
    watches.add(PAGE + first, PAGE + end, flags)
    exit_ = board.cpu.run(1000)
    if not wanted:
        assert isinstance(exit_, Halt)
        return
    at, size, write = watch.last_access()
    assert isinstance(exit_, Watched)
    assert [(at - PAGE, size, write)] == wanted
    assert exit_.eip == CODE + 1
    if write:
        assert bytes(board.memory)[board.physical(PAGE) :][:0x40] == before[board.physical(PAGE) :][:0x40]
    assert isinstance(watches.step_over(board.cpu, 1000), Stepped)
    assert isinstance(board.cpu.run(1000), Halt)


def test_wrong_ranges(board: Board) -> None:
    for first, end, flags in ((1, 1, READ), (-1, 2, READ), (0, 1 << 33, WRITE), (0, 4, 0)):
        with pytest.raises(NoWatch):
            Watches([board.cpu]).add(first, end, flags)


MIXED = f"""mov esi, {DATA}
mov edi, {PAGE - 8}
mov ecx, 20
cld
rep movsb
mov esp, {PAGE + 0x40}
pusha
mov dword ptr [{PAGE - 2}], 0x55667788
lock xadd [{PAGE + 8}], eax
lock cmpxchg8b [{PAGE + 8}]
fxsave [{PAGE + 0x200}]
hlt"""


def _finish(board: Board, watches: Watches | None) -> tuple[int, int, bytes, dict[str, int]]:
    """Stops, clock, memory and registers at HLT."""
    board.load(MIXED, ring=0)
    for at in range(0x1000):
        board.memory[board.physical(DATA) + at] = at * 7 + 3 & 255
    cpu, stops, began = board.cpu, 0, board.cpu.clock
    if watches is not None:
        watches.add(PAGE, PAGE + 0x210, READ | WRITE)
    while not isinstance(exit_ := cpu.run(10_000), Halt):
        assert isinstance(exit_, Watched) and watches is not None
        stops += 1
        if isinstance(watches.step_over(cpu, 10_000), Halt):
            break
    return stops, cpu.clock - began, bytes(board.memory), cpu.context.general()


def test_a_watched_run_ends_as_one_without(board: Board) -> None:
    plain, twin = _finish(board, None), Board(pae=board.pae)
    watched = _finish(twin, Watches([twin.cpu]))
    assert watched[1:] == plain[1:]
    # 12 of the 20 bytes moved lie in the page; then PUSHA, the store over the edge, XADD, CMPXCHG8B, FXSAVE
    assert watched[0] == 12 + 5
    twin.cpu.close()


def test_a_watch_of_one_cpu_does_not_stop_another(board: Board) -> None:
    other = Board(board.pae, index=1, memory=board.memory)
    watches = Watches([board.cpu, other.cpu])
    watches.add(PAGE, PAGE + 4, READ, cpu=other.cpu)
    for each, wanted in ((board, Halt), (other, Watched)):
        each.load(f"mov eax, [{PAGE}]\nhlt", ring=0)
        assert isinstance(each.cpu.run(100), wanted)
    watches.clear()
    other.cpu.close()
