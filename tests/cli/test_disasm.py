"""``sandbox disasm``: which files it reads, where it puts them, and one-line errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sandbox.cli import main
from sandbox.image.assemble import SOURCES, assemble_source
from sandbox.image.manifest import load

IMAGES = SOURCES.parent / "images"
ROMS = [path for path in sorted(IMAGES.glob("*/manifest.toml")) if load(path).kind == "rom"]


def rows(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    assert main(["disasm", "--json", *words]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_the_kernel_is_readable_although_no_program(capsys):
    first = rows(capsys, str(IMAGES / "kernel" / "kernel.elf"))[0]
    assert first["address"] == 0xC0100000
    assert "call_stub" in first["labels"]


def test_labels_and_targets_are_shown(capsys):
    assert main(["disasm", str(IMAGES / "cow-fork")]) == 0
    out = capsys.readouterr().out
    assert "\nchild:\n" in out
    assert "<child>" in out
    assert "<page>" in out
    assert "\x1b" not in out, "no colour where no terminal is"


def test_an_object_names_what_it_imports(capsys, tmp_path):
    (tmp_path / "m.S").write_text(".globl init\ninit: call printk\n")
    assemble_source(tmp_path / "m.S", tmp_path / "m.o", "module")
    assert rows(capsys, str(tmp_path / "m.o")) == [
        {"address": 0, "bytes": "e8fcffffff", "text": "call 1", "section": ".text", "labels": ["init"],
         "refers": "printk"},
    ]  # fmt: skip


@pytest.mark.skipif(not ROMS, reason="no ROM image yet")
def test_a_rom_lies_where_its_manifest_says(capsys):
    manifest = load(ROMS[0])
    assert rows(capsys, str(ROMS[0].parent))[0]["address"] == manifest.load
    assert rows(capsys, str(manifest.image))[0]["address"] == 0
    assert rows(capsys, str(ROMS[0]), "--address", "0x7c00")[0]["address"] == 0x7C00


def test_sources_are_assembled_first(capsys, tmp_path):
    (tmp_path / "x.S").write_text(".globl _start\n_start: int3\n")
    assert rows(capsys, str(tmp_path / "x.S"))[0]["text"] == "int3"


def test_much_that_is_no_instruction_is_no_trouble(capsys, tmp_path):
    (tmp_path / "x.bin").write_bytes(b"\xff" * 50_000)
    assert main(["disasm", str(tmp_path / "x.bin")]) == 0
    assert capsys.readouterr().out.count(".byte 0xff") == 50_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "neither a file nor bytes"),
        ([""], "no code"),
        (["/nonexistent/x.elf"], "neither a file nor bytes"),
        (["."], "neither a file nor bytes"),
        (["90", "--address", "5x"], "--address 5x: '5x' is not a number"),
        (["90", "--address", "-1"], "--address -1: -1 is negative"),
        (["90", "--address", "0x100000000"], "0x100000000 is past 4 GB"),
        (["z" * 5000], "neither a file nor bytes"),
        (["9\0"], "neither a file nor bytes"),
    ],
)
def test_errors_are_one_line(capsys, words, said):
    try:
        assert main(["disasm", *words]) == 2
    except SystemExit as leaving:
        pytest.fail(f"argparse left with {leaving.code}")
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert len(err) < 200


def test_damaged_files_are_one_line(capsys, tmp_path: Path):
    whole = (IMAGES / "cow-fork" / "cow-fork.elf").read_bytes()
    (tmp_path / "cut.elf").write_bytes(whole[:100])
    assert main(["disasm", str(tmp_path / "cut.elf")]) == 2
    assert capsys.readouterr().err.startswith("sandbox: cut.elf: ")
    (tmp_path / "empty").write_bytes(b"")
    assert main(["disasm", str(tmp_path / "empty")]) == 2
    assert capsys.readouterr().err == "sandbox: empty: no code in it\n"
