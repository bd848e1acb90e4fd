"""The clock in line: the committed code against its source, and the same clock as by a hook on every block."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.engine import clockcode, internals, stubs
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import BusError
from tests.engine.board import CODE, DATA, HOLE, Board, assembled
from tests.hosttools import host_code

SOURCE = Path(stubs.__file__).parent / "native" / "clock.S"
ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the stubs are x86-64 Linux code")


@pytest.mark.skipif(not shutil.which("as"), reason="no GNU as")
def test_bytes_and_layout_are_the_sources(tmp_path: Path) -> None:
    code, labels = host_code(SOURCE, tmp_path)
    assert code[: labels["end_of_code"]] == clockcode.CODE
    assert not any(code[4096:])
    assert {name: labels[name] for name in clockcode.OFFSETS} == clockcode.OFFSETS
    fields = {name: 4096 + getattr(clockcode.Data, name).offset for name, _ in clockcode.Data._fields_}
    assert fields == {name: labels[name] for name in fields}


def test_offsets_are_those_of_the_other_stubs() -> None:
    """Both files know the pad, and ``internals`` where the engine is."""
    found = {
        path: dict(re.findall(r"^\s+\.set\s+(\w+),\s+(-?\w+)", path.read_text(), re.M))
        for path in (SOURCE, SOURCE.with_name("stubs.S"))
    }
    mine, theirs = found[SOURCE], found[SOURCE.with_name("stubs.S")]
    shared = mine.keys() & theirs.keys()
    assert {"BLOCKS", "STOP", "REASON", "STEPS", "SKIP", "FIRST", "END", "FUEL", "SPENT", "PAUSED"} <= shared
    assert {name: mine[name] for name in shared} == {name: theirs[name] for name in shared}
    assert int(mine["ENV_ENGINE"], 0) == internals.ENGINE_OF_ENV


def test_operations_have_the_numbers_that_the_engine_gives_them() -> None:
    """As in the engine's own generators: ``mov esi, number`` in front of the call that makes such an operation."""
    numbers = {name: int(value) for name, value in re.findall(r"\.set\s+OP_(\w+),\s+(\d+)", SOURCE.read_text())}
    for name, function in (
        ("ADD", "tcg_gen_addi_i64"),
        ("OR", "tcg_gen_ori_i64"),
        ("MOVI", "tcg_const_i64"),
        ("SETCOND", "tcg_gen_setcond_i64"),
    ):
        code = ctypes.string_at(internals.symbol(f"{function}_x86_64"), 120)
        assert b"\xbe" + numbers[name].to_bytes(4, "little") in code, name


def test_no_hook_counts_blocks() -> None:
    Cpu().close()
    assert clockcode.install() is None
    assert ctypes.c_uint64.from_address(internals.slot("check_exit_request_x86_64")).value == (
        clockcode.pages()[1] + clockcode.OFFSETS["check_code"]
    )


@pytest.mark.parametrize(
    "image",
    ["sort", "cow-fork", "self-modify", "smp-refill", "preempt", "kmalloc", "rom-interrupt-window", "step-count"],
)
def test_the_clock_is_that_of_the_hook(image: str) -> None:
    """Each event of a run has the same time where a hook counts the blocks, on the engine as it came."""
    told = []
    for engine in ("mended", "stock"):
        verb = ["rom"] if image.startswith("rom") else ["run"]
        command = [
            sys.executable,
            "-m",
            "sandbox",
            *verb,
            "--engine",
            engine,
            "--trace",
            "faults,calls,tasks",
            f"images/{image}",
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        told.append((done.returncode, done.stdout, done.stderr))
    assert told[0] == told[1]
    assert told[0][2], "events with their times"


@pytest.mark.parametrize("size", ["byte", "word", "dword"])
def test_a_store_that_nobody_answers_ends_the_run_at_its_instruction(size: str) -> None:
    """The slow path looks for the end of the run: what stands behind the store is not executed."""
    board = Board()
    board.map(DATA, frame=HOLE)
    board.cpu.flush_tlb()
    board.poke(CODE, assembled(f"mov ebx, 1\nmov {size} ptr [{DATA:#x}], 5\nmov ebx, 2\nhlt"))
    exit_ = board.cpu.run(10)
    assert isinstance(exit_, BusError)
    assert (exit_.eip, exit_.physical, exit_.write) == (CODE + 5, HOLE, True)
    assert board.cpu.context.ebx == 1
