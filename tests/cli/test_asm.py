"""``sandbox asm``: listings, files, and errors of one line."""

from __future__ import annotations

import io
import json
import shutil
from types import SimpleNamespace

import pytest

from sandbox.cli import main

EXIT = bytes.fromhex("b801000000cd80")


def test_a_listing(capsys):
    assert main(["asm", "mov eax, 1; int 0x80", "--address", "0x8048000"]) == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [address for address, _ in rows] == ["08048000", "08048005"]
    assert rows[0][1].startswith("b8 01 00 00 00")
    assert rows[1][1].endswith("int 0x80")


def test_json(capsys):
    assert main(["asm", "--json", "jmp 0x1000", "--address", "0x1000"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"address": 0x1000, "bytes": "e9fbffffff", "text": "jmp 0x1000"}]


def test_a_file_to_a_file(tmp_path, capsys):
    source, out = tmp_path / "x.s", tmp_path / "x.bin"
    source.write_text("mov eax, 1\nint 0x80\n")
    assert main(["asm", str(source), "-o", str(out)]) == 0
    assert out.read_bytes() == EXIT
    assert capsys.readouterr().out == ""


def test_the_standard_input(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"nop\nfoo\n")))
    assert main(["asm", "-"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("sandbox: stdin:2: foo: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("words", [[""], ["# nothing"], ["nop", "--address", "0x100000000"], ["nop", "-o", "/none/x"]])
def test_bad_input_is_one_line(words, capsys):
    assert main(["asm", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(not shutil.which("as") or not shutil.which("ld"), reason="binutils are not installed")
def test_gnu_as_knows_labels_and_its_errors_name_the_line(capsys):
    assert main(["asm", "--gnu", "--json", "x: jmp x", "--address", "0x1000"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"address": 0x1000, "bytes": "ebfe", "text": "jmp 0x1000"}]
    assert main(["asm", "--gnu", "nop\nfoo eax"]) == 2
    assert capsys.readouterr().err.startswith("sandbox: snippet:2: Error: ")
