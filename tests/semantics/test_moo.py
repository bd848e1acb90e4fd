"""MOO files: what real processors gave in real mode, read and compared."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from sandbox.campaign.items import Item, do
from sandbox.cli import main
from sandbox.engine import mends
from sandbox.semantics import campaign, moo, moo_run
from sandbox.semantics.campaign import BadState, State
from sandbox.semantics.moo import BadMoo

from .moo_files import case, chunk, file, ram, registers

BEFORE_286 = {
    "ax": 715, "bx": 26659, "cx": 49548, "dx": 64181, "cs": 65535, "ss": 41175, "ds": 65535, "es": 43996, "sp": 39769,
    "bp": 65535, "si": 35262, "di": 34633, "ip": 38072, "flags": 6291,
}  # fmt: skip
MEMORY_286 = {1086632: 0, 1086633: 95, 1086634: 14, 1086635: 244, 1086636: 161, 1075233: 222}
REAL_286 = case(
    b"\x00\x5f\x0e\xf4", BEFORE_286, MEMORY_286, {"ip": 38076, "flags": 19}, {1075233: 1}, name="add [bx+0Eh],bl"
)
"""What a Harris 80C286 made of an ADD (SingleStepTests, README of 80286)."""
BEFORE_386 = {
    "cr0": 2147418096, "cr3": 0, "eax": 46917154, "ebx": 1747202472, "ecx": 3247246033, "edx": 4206235108,
    "esi": 8323072, "edi": 4054220768, "ebp": 524289, "esp": 56811, "cs": 7970, "ds": 809, "es": 17715, "fs": 0,
    "gs": 3855, "ss": 63468, "eip": 29344, "eflags": 4294707347, "dr6": 4294905840, "dr7": 0,
}  # fmt: skip
MEMORY_386 = {156864: 0, 156865: 94, 156866: 96, 156867: 244, 156868: 63, 1015585: 11}
REAL_386 = case(
    b"\x00\x5e\x60\xf4", BEFORE_386, MEMORY_386, {"eip": 29348, "eflags": 4294705298}, {1015585: 179},
    name="add [ss:bp+60h],bl",
)  # fmt: skip
"""And an Intel 80386EX of another (README of 80386)."""
ZERO = dict.fromkeys(BEFORE_286, 0) | {"cs": 0x1000, "ss": 0x2000, "ds": 0x3000, "sp": 0x100, "flags": 2}
HANDLER = {0: 0x34, 1: 0x12, 2: 0, 3: 0x40, 0x41234: 0xF4}
"""Vector 0 leads to a HLT at 4000:1234."""
DIVIDE = case(
    b"\xf7\xf1\xf4",
    ZERO,
    {0x10000: 0xF7, 0x10001: 0xF1, 0x10002: 0xF4, **HANDLER},
    {"cs": 0x4000, "ip": 0x1235, "sp": 0xFA, "flags": 2},
    {0x200FE: 0x57, 0x200FF: 0x00, 0x200FD: 0x10},
    exception=(0, 0x200FE),
    name="div cx",
)
"""DIV by 0: FLAGS, CS, IP of the instruction itself, from the vector table (80286 Programmer's Reference, 5.2 and 9.5);
CF, PF, AF, SF and ZF are undefined behind it (DIV), here 1, 1, 1, 0, 1."""


def told(data: bytes) -> list[tuple[str, tuple[str, ...], str]]:
    return list(moo_run.run(moo.unpack(data)).ways)


@pytest.mark.parametrize(
    ("data", "mnemonic", "count"),
    [
        (file(REAL_286), "add", 1),
        (file(REAL_386, processor="386E"), "add", 1),
        (file(REAL_286, REAL_286, REAL_286), "add", 3),
        (gzip.compress(file(DIVIDE, mnemonic="div")), "div", 1),
    ],
)
def test_what_processors_did_is_what_the_sandbox_does(data: bytes, mnemonic: str, count: int) -> None:
    parsed = moo.unpack(data)
    assert (parsed.mnemonic, len(parsed.tests)) == (mnemonic, count)
    assert told(data) == []


def test_a_file_is_taken_apart() -> None:
    (one,) = moo.unpack(file(REAL_286)).tests
    assert (one.name, one.code) == ("add [bx+0Eh],bl", b"\x00\x5f\x0e\xf4")
    assert (one.before.registers["ebx"], one.before.registers["eip"]) == (26659, 38072)
    assert dict(one.before.ram) == MEMORY_286
    assert (one.after.registers, one.after.ram) == ({"eip": 38076, "eflags": 19}, ((1075233, 1),))
    (one,) = moo.unpack(file(DIVIDE)).tests
    assert one.exception == (0, 0x200FE)


def test_chunks_that_nobody_knows_are_skipped() -> None:
    """MOO File Format Specification: a conforming parser skips chunks that it does not recognize."""
    assert told(file(REAL_286, masks=chunk("XYZ", b"12345"))) == []


@pytest.mark.parametrize(
    ("after", "changed", "parts"),
    [
        ({"ip": 38076, "flags": 18}, {1075233: 1}, ("CF",)),
        ({"ip": 38076, "flags": 19, "si": 1}, {1075233: 1}, ("registers",)),
        ({"ip": 38075, "flags": 19}, {1075233: 1}, ("eip",)),
        ({"ip": 38076, "flags": 19}, {1075233: 2}, ("memory",)),
        ({"ip": 38076, "flags": 19}, {}, ("memory",)),
        ({"ip": 38076, "flags": 19, "es": 1}, {1075233: 1}, ("es",)),
    ],
)
def test_every_part_is_compared(after: dict[str, int], changed: dict[int, int], parts: tuple[str, ...]) -> None:
    other = case(b"\x00\x5f\x0e\xf4", BEFORE_286, MEMORY_286, after, changed)
    assert told(file(other)) == [("add 00", parts, "")]


def test_the_files_own_masks_leave_bits_open() -> None:
    wrong = {"ip": 38076, "flags": 18, "si": 1}
    masks = registers("RMSK", {"flags": 0xFFFE, "si": 0})
    other = case(b"\x00\x5f\x0e\xf4", BEFORE_286, MEMORY_286, wrong, {1075233: 1})
    assert told(file(other, masks=masks)) == []
    of_one = case(b"\x00\x5f\x0e\xf4", BEFORE_286, MEMORY_286, wrong, {1075233: 1}, masks=masks)
    assert told(file(of_one)) == []
    assert len(told(file(other, of_one))) == 1


def test_what_a_processor_alone_does_is_listed() -> None:
    """The 286 takes LOCK with every instruction; a word at FFFFh is #GP on it (80286 Programmer's Reference, 5.2)."""
    locked = case(
        b"\xf0\x01\xd8\xf4", ZERO, {0x10000: 0xF0, 0x10001: 1, 0x10002: 0xD8, 0x10003: 0xF4},
        {"ip": 4, "flags": 0x46}, {},
    )  # fmt: skip
    (way,) = told(file(locked))
    assert way[1] == ("fault none not #UD",) and "LOCK" in way[2]
    assert told(file(locked, processor="386E"))[0][2] == ""


HEAD = file(REAL_286)[:20]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ELF",
        HEAD[:-1],
        file(REAL_286)[:-1],
        file(REAL_286) + b"x",
        file(REAL_286).replace(b"\x01\x00\x00\x00C286", b"\x02\x00\x00\x00C286"),
        file(REAL_286, processor="8088"),
        file(chunk("TEST", b"\0\0\0\0")),
        file(case(b"\xf4", {"ax": 1}, {}, {}, {})),
        file(case(b"\xf4", ZERO, {0x200000: 1}, {}, {})),
        gzip.compress(file(REAL_286))[:-9],
        file(REAL_286).replace(b"add [", b"\xff\xff\xff\xff\xff"),
        file(REAL_286).replace(chunk("RAM", b"")[:4], b"RAM\xff"),
        chunk("MOO", b""),
    ],
)
def test_what_is_no_moo_file_is_told_in_a_line(data: bytes) -> None:
    with pytest.raises(BadMoo) as caught:
        moo.unpack(data, "a file")
    assert caught.value.exit_status == 2
    assert caught.value.summary.startswith("a file: ") and "\n" not in caught.value.summary


def test_a_file_may_call_anything_a_shift() -> None:
    assert told(file(REAL_286, mnemonic="shl")) == []


def test_a_straight_line_without_an_end_ends() -> None:
    """ADD [BX+SI], AL to the end of memory, and beyond FFFFh."""
    line = case(b"\xeb\x10\xf4", ZERO, {0x10000: 0xEB, 0x10001: 0x10}, {"ip": 1}, {})
    assert told(file(line))[0][1] in (("fault none not endless",), ("fault none not #UD",))


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "00.MOO", tmp_path / "01.MOO"
    good.write_bytes(file(REAL_286))
    wrong = case(b"\x00\x5f\x0e\xf4", BEFORE_286, MEMORY_286, {"ip": 38076, "flags": 18}, {1075233: 1})
    bad.write_bytes(file(wrong))
    assert main(["semantics", "--moo", str(good)]) == 0
    assert "Harris 80C286" in capsys.readouterr().out
    assert main(["semantics", "--json", "--moo", str(good), str(bad)]) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["vectors"], data["new"]) == (2, 1)
    bad.write_bytes(b"nothing")
    assert main(["semantics", "--moo", str(bad)]) == 2
    assert len(capsys.readouterr().err.splitlines()) <= 2
    good.write_bytes(file(REAL_386, processor="386E"))
    bad.write_bytes(file(REAL_286))
    assert main(["semantics", "--moo", str(good), str(bad)]) == 2


def test_a_file_is_work_for_a_campaign(tmp_path: Path) -> None:
    path = tmp_path / "00.MOO.gz"
    path.write_bytes(gzip.compress(file(DIVIDE, mnemonic="div")))
    outcome = do(Item("00", "sandbox.semantics.moo_run:run_file", (str(path),)))
    assert outcome["value"]["ways"] == []
    path.write_bytes(ram({}))
    assert do(Item("00", "sandbox.semantics.moo_run:run_file", (str(path),)))["status"] == 2


def wrong(number: int) -> bytes:
    """A test whose carry is not the processor's, told apart by SI."""
    before = {**BEFORE_286, "si": number}
    memory = {**MEMORY_286, (BEFORE_286["ds"] * 16 + BEFORE_286["bx"] + 14 & 0xFFFFFF): 222}
    return case(b"\x00\x5f\x0e\xf4", before, memory, {"ip": 38076, "flags": 18}, {1075233: 1})


@pytest.mark.parametrize("source", ["/dev/zero", "pipe", "folder"])
def test_what_has_no_end_is_refused(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(source) if source.startswith("/") else tmp_path / source
    if source == "pipe":
        os.mkfifo(path)
    elif source == "folder":
        path.mkdir()
    assert main(["semantics", "--moo", str(path)]) == 2
    assert capsys.readouterr().err == f"sandbox: {path}: not a regular file\n"


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moo, "MOST_BYTES", 1000)
    path = tmp_path / "00.MOO"
    path.write_bytes(bytes(1001))
    with pytest.raises(BadMoo, match="more than 0 MB"):
        moo.head(path)
    path.write_bytes(gzip.compress(bytes(5000)))
    with pytest.raises(BadMoo, match="more than 0 MB when unpacked"):
        moo.read(path)


def test_a_part_of_a_file_has_those_tests() -> None:
    data = file(*map(wrong, range(5)))
    assert [each.before.registers["esi"] for each in moo.unpack(data, part=slice(1, 3)).tests] == [1, 2]


def test_files_are_run_by_processes_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut behind its first chunk, the rest by two processes: the same as one process at once finds."""
    monkeypatch.setattr(moo_run, "CHUNK", 2)
    paths = [tmp_path / name for name in ("00.MOO", "01.MOO.gz")]
    paths[0].write_bytes(file(REAL_286, *map(wrong, range(4))))
    paths[1].write_bytes(gzip.compress(file(wrong(0), REAL_286, REAL_286)))
    plan = moo_run.plan(paths, "mended")
    assert [chunk[1:] for chunk in plan.chunks()] == [(0, 2), (2, 2), (4, 1), (0, 2), (2, 1)]
    whole = State(None, plan)
    assert sum(campaign.run(plan, whole, 1)) == 8
    kept = tmp_path / "state"
    cut = campaign.run(plan, State(kept, plan), 1)
    next(cut)
    cut.close()  # type: ignore[attr-defined]
    state = State(kept, plan)
    assert sum(campaign.run(plan, state, 2)) == 6
    assert state.total().ways == whole.total().ways and whole.total().new == 5
    paths[1].write_bytes(file(REAL_286))
    with pytest.raises(BadState, match="other options"):
        State(kept, moo_run.plan(paths, "mended"))


@pytest.mark.campaign
def test_all_of_the_published_files_of_the_80286() -> None:
    """SANDBOX_MOO names a folder with them: github.com/SingleStepTests/80286, v1_real_mode."""
    folder = os.environ.get("SANDBOX_MOO")
    if not folder:
        pytest.skip("no folder in SANDBOX_MOO")
    plan = moo_run.plan(sorted(Path(folder).glob("*.MOO.gz")), mends.chosen())
    state = State(None, plan)
    assert sum(campaign.run(plan, state, 2)) > 1_000_000
    assert [way for way in state.total().ways if not way[2]] == []
