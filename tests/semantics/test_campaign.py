"""Campaigns: cut anywhere they go on to the same end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.engine import stubs
from sandbox.image.disassemble import engine
from sandbox.semantics import campaign, generate, report
from sandbox.semantics.campaign import BadState, Plan, State, Tally
from sandbox.semantics.compare import cause_of, compare, known
from sandbox.semantics.processor import Processor
from sandbox.semantics.undefined import rules
from sandbox.semantics.vector import CODE, HANG, RESET_FPU, Fault, Result, Vector
from tests.patience import running, until

PLAN = Plan(("integer", "mmx"), 1, 5000, "mended")
SOME = Processor("AuthenticAMD", "a CPU", "0x1")


def result(vector: Vector, **fields: object) -> Result:
    made = {"registers": vector.registers, "eip": vector.eip, "eflags": vector.eflags, "selectors": (0,) * 6, **fields}
    return Result(**made)  # type: ignore[arg-type]


def pretended(seed: int, chunk: tuple[str, int, int]) -> Tally:
    """Every tenth vector differs in EIP."""
    tally = Tally()
    vectors = list(generate.vectors(chunk[0], seed, chunk[1], 60))
    theirs = [result(vector) for vector in vectors]
    ours = [result(vector, eip=vector.eip + (at % 10 == 0)) for at, vector in enumerate(vectors)]
    campaign.judge(vectors, theirs, ours, tally, "AuthenticAMD")
    tally.seconds.clear()
    return tally


@pytest.fixture(autouse=True)
def _pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "run_chunk", pretended)


def cut_after(chunks: Iterator[int], number: int) -> None:
    for _ in range(number):
        next(chunks)
    chunks.close()  # type: ignore[attr-defined]


def test_cut_and_resumed_is_the_same(tmp_path: Path) -> None:
    whole = State(None, PLAN)
    list(campaign.run(PLAN, whole, 1))
    path = tmp_path / "state"
    cut_after(campaign.run(PLAN, State(path, PLAN), 1), 2)
    with path.open("a") as file:
        file.write('{"chunk": ["mmx", 0')  # as a killed process leaves it
    again = State(path, PLAN)
    assert len(again.done) == 2
    assert sum(campaign.run(PLAN, again, 1)) == 2 * PLAN.count - 2 * campaign.CHUNK
    assert again.total().to_dict() == whole.total().to_dict() == State(path, PLAN).total().to_dict()


def test_ctrl_c_leaves_a_state_to_go_on_from(tmp_path: Path) -> None:
    """The command, interrupted once a chunk is done: status 130, a line that says how, and processes gone."""
    if not stubs.native_host() or not shutil.which("gcc"):
        pytest.skip("no gcc")
    path = tmp_path / "state"
    command = [
        sys.executable,
        "-m",
        "sandbox",
        "semantics",
        "integer",
        "--count",
        "2000000",
        "--jobs",
        "2",
        "--resume",
        path,
    ]
    with running(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        until(lambda: process.poll() is not None or (path.exists() and path.read_text().count("\n") > 2))
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
    if "32-bit" in said:
        pytest.skip(said)
    assert process.returncode == 130 and f"--resume {path}" in said and "Traceback" not in said
    done = State(path, Plan(("integer",), 1, 2000000, "mended")).done
    assert len(done) >= 2 and all(tally.vectors.total() == campaign.CHUNK for tally in done.values())


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    State(path, PLAN)
    with pytest.raises(BadState, match="other options"):
        State(path, Plan(("integer",), 1, 5000, "mended"))
    path.write_text("nonsense")
    with pytest.raises(BadState, match="is not the state"):
        State(path, PLAN)


def test_a_run_that_is_over_has_no_thread_that_is_still_ending() -> None:
    """One that closes its pipe while the interpreter ends makes the interpreter print a traceback (3.11)."""
    list(campaign.run(PLAN, State(None, PLAN), 2))
    assert [each.name for each in threading.enumerate() if "Executor" in type(each).__name__] == []


def test_reports_agree(tmp_path: Path) -> None:
    state = State(None, PLAN)
    list(campaign.run(PLAN, state, 1))
    found = report.Found(SOME, "mended", 1, state.total())
    data = json.loads(json.dumps(report.to_dict(found)))
    assert data["vectors"] == 360 and data["divergences"] == data["new"] == 36
    assert sum(row["differ"] for row in data["instructions"]) == 36
    assert all(len(line) <= 80 for line in report.text(found).splitlines())
    failed = sum("new" in row["causes"] for row in data["instructions"])
    assert f'failures="{failed}"' in report.junit(found)
    assert report.page(found).count("\n| ") == len(data["instructions"]) + 2


def vector_of(form: str, code: str, **fields: object) -> Vector:
    made = {"eip": 0, "registers": (0,) * 8, "eflags": 2, **fields}
    return Vector(form, bytes.fromhex(code), **made)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("form", "code", "flags", "differs"),
    [
        ("and Eb,Gb", "20d8", 0x10, False),
        ("add Eb,Gb", "00d8", 0x10, True),
        ("shl Ev,Ib", "c1e001", 0x800, True),
        ("shl Ev,Ib", "c1e002", 0x800, False),
        ("rol Ev,Ib", "c1c002", 0x10, True),
        ("mul Ev", "f7e0", 0x40, False),
        ("mul Ev", "f7e0", 0x1, True),
        ("shl Eb,Ib", "c0e009", 0x1, False),
        ("shl Ev,Ib", "c1e009", 0x1, True),
        ("shl Ew,Ib", "c1e010", 0x1, False),
        ("shl Ew,Ib", "66c1e010", 0x1, True),
    ],
)
def test_undefined_flags_are_the_manuals(form: str, code: str, flags: int, differs: bool) -> None:
    """SDM 1, appendix A, and the pages of the instructions."""
    vector = vector_of(form, code)
    found = compare(vector, result(vector), result(vector, eflags=2 | flags), "AuthenticAMD")
    assert (found is not None) is differs


@pytest.mark.parametrize(("code", "differs"), [("f2e11d", False), ("f3e01d", False), ("e11d", True), ("66e11d", True)])
def test_a_repeated_loop_goes_anywhere(code: str, differs: bool) -> None:
    """SDM 2A, 2.1.1: a repeat prefix with what is no string instruction may do anything."""
    vector = vector_of("loope Jb" if "e1" in code else "loopne Jb", code)
    found = compare(vector, result(vector, eip=0x20), result(vector, eip=3), "AuthenticAMD")
    assert (found is not None) is differs


def test_a_fault_is_all_that_is_told_of_its_vector() -> None:
    vector = vector_of("mov Ev,Gv", "8900")
    found = compare(vector, result(vector, fault=Fault(14, 6, 0)), result(vector, registers=(1,) * 8))
    assert found is not None and found.parts == ("fault #PF not none",)


def test_bsf_of_zero_is_judged_on_amd_alone() -> None:
    """SDM 2A, BSF: undefined; APM 3, BSF: unchanged."""
    vector = vector_of("bsf Gv,Ev", "0fbcc3")
    theirs, ours = result(vector, eflags=0x42), result(vector, eflags=0x42, registers=(9, *(0,) * 7))
    assert compare(vector, theirs, ours, "GenuineIntel") is None
    assert compare(vector, theirs, ours, "AuthenticAMD") is not None


def test_what_is_listed_has_a_vector_of_its_kind() -> None:
    for entry in known():
        assert entry.cause and entry.forms and entry.parts and entry.engine in ("", "mended", "stock")
        assert entry.prefix < 0 or entry.code[0] == entry.prefix, entry.cause
        decoded = list(engine(False).disasm_lite(entry.code, 0, 1))
        assert decoded or entry.prefix == 0xF0 or "mov Ew,Sw" in entry.forms, "capstone refuses what raises #UD"


def test_every_mask_has_its_source() -> None:
    mnemonics = {form.mnemonic for family in generate.FAMILIES for form in generate.forms(family)}
    for rule in rules():
        assert rule.source and set(rule.mnemonics) <= mnemonics | {"*"}, rule


def test_icebp_is_told_behind_it() -> None:
    """SDM 2A, INT1; KVM on AMD's CPUs tells it at the instruction."""
    vector = vector_of("int1", "f1")
    at, behind = result(vector, fault=Fault(1)), result(vector, fault=Fault(1), eip=1)
    assert compare(vector, at, behind, "AuthenticAMD") is None
    assert compare(vector, behind, at, "AuthenticAMD") is not None


@pytest.mark.parametrize("place", ["no-such-folder/state", ".", "/dev/full"])
def test_a_place_that_can_keep_nothing_is_refused(tmp_path: Path, place: str) -> None:
    """In a line, before anything runs: a device without end is not read."""
    with pytest.raises(BadState, match=r"No such file|not a regular file"):
        State(tmp_path / place, PLAN)


@pytest.mark.parametrize("part", ["registers", "memory", "xmm", "st", "status", "tags", "mxcsr", "CF", "ZF", "eip"])
def test_no_listed_cause_hides_what_is_new_of_the_mended_engine(part: str) -> None:
    """A plain vector without a prefix and a fault: whatever its form, nothing that is listed is about it."""
    for family in generate.FAMILIES:
        for form in generate.forms(family):
            plain = Vector(form.name, form.prefix + form.opcode, CODE, (0,) * 8, 0x202, fpu=RESET_FPU)
            assert cause_of(plain, (part,), "mended", "AuthenticAMD") == "", form.name


def test_what_was_stopped_somewhere_is_compared_no_further() -> None:
    (vector,) = generate.vectors("integer", 1, 0, 1)
    one, other = (result(vector, eip=vector.eip + at, fault=Fault(HANG)) for at in (0, 2))
    assert compare(vector, one, other) is None
    assert compare(vector, one, result(vector)) is not None
