"""Sources to images by the tools: what comes out, and what is said when they refuse."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from sandbox.image import assemble
from sandbox.image.assemble import (
    AssemblyError,
    ToolMissing,
    assemble_source,
    assemble_text,
    run_tool,
    tool_for,
    tool_version,
)

pytestmark = pytest.mark.skipif(not shutil.which("as") or not shutil.which("ld"), reason="binutils are not installed")
needs_nasm = pytest.mark.skipif(not shutil.which("nasm"), reason="nasm is not installed")
GNU = ".intel_syntax noprefix\n.globl _start\n_start: mov eax, 1\nint 0x80\n"
NASM = "bits 32\nglobal _start\nsection .text\n_start: mov eax, 1\nint 0x80\n"
CODE = bytes.fromhex("b801000000cd80")


def test_text_at_an_address():
    assert assemble_text("mov eax, 1; int 0x80") == CODE
    assert assemble_text("movl $1, %eax; int $0x80", syntax="att") == CODE
    # E8 rel32 counts from the end of the instruction.
    assert assemble_text("call 0x1000", 0x2000) == b"\xe8" + (0x1000 - 0x2005 & 0xFFFFFFFF).to_bytes(4, "little")
    assert assemble_text("here: .long here", 0xC0001000) == bytes.fromhex("001000c0")


@pytest.mark.parametrize("syntax", ["intel", "att"])
def test_errors_in_a_text_have_its_own_line_numbers(syntax):
    with pytest.raises(AssemblyError, match=r"^snippet\.S:2: Error: .*frobnicate") as caught:
        assemble_text("nop\nfrobnicate\nnop", syntax=syntax)
    assert caught.value.exit_status == 2
    with pytest.raises(AssemblyError, match=r"^snippet\.S:1: "):
        assemble_text("frobnicate", syntax=syntax)


def test_an_undefined_name_is_an_error():
    with pytest.raises(AssemblyError, match="nowhere"):
        assemble_text("call nowhere")


@needs_nasm
def test_both_assemblers_give_a_program_with_the_same_code(tmp_path):
    built = []
    for suffix, text in ((".S", GNU), (".asm", NASM)):
        source, out = tmp_path / f"x{suffix}", tmp_path / f"x{suffix}.elf"
        source.write_text(text)
        assemble_source(source, out)
        data = out.read_bytes()
        assert data[:7] == b"\x7fELF\x01\x01\x01"
        assert data[16:20] == b"\x02\0\x03\0"  # ET_EXEC, EM_386
        assert CODE in data
        assert out.stat().st_mode & 0o111
        built.append(data)
    assert "GNU as" in tool_for(Path("x.S"))
    assert tool_for(Path("x.asm")).startswith("NASM version ")


def test_kinds_give_an_object_and_a_flat_file(tmp_path):
    source = tmp_path / "x.S"
    source.write_text(GNU)
    assemble_source(source, tmp_path / "x.o", "module")
    assert (tmp_path / "x.o").read_bytes()[16:18] == b"\x01\0"  # ET_REL
    assemble_source(source, tmp_path / "x.bin", "rom", 0x7000)
    assert (tmp_path / "x.bin").read_bytes().startswith(CODE)


def test_the_same_source_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.S").write_text(GNU)
        assemble_source(tmp_path / folder / "x.S", tmp_path / folder / "out")
    assert (tmp_path / "a" / "out").read_bytes() == (tmp_path / "b" / "out").read_bytes()


def test_errors_in_a_source_name_file_and_line(tmp_path):
    source = tmp_path / "wrong.S"
    source.write_text(GNU + "frobnicate\n")
    with pytest.raises(AssemblyError, match=r"^wrong\.S:5: "):
        assemble_source(source, tmp_path / "out")
    with pytest.raises(AssemblyError, match="no such file"):
        assemble_source(tmp_path / "none.S", tmp_path / "out")
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(AssemblyError, match="not a source"):
        assemble_source(tmp_path / "x.txt", tmp_path / "out")


def test_a_missing_tool_names_the_package():
    with pytest.raises(ToolMissing, match="not-a-tool is not installed") as caught:
        run_tool(["not-a-tool"])
    assert "apt-get install" in caught.value.detail


def test_a_tool_that_does_not_end_or_does_not_speak_text(monkeypatch):
    monkeypatch.setattr(assemble, "TOOL_TIMEOUT", 0.2)
    with pytest.raises(AssemblyError, match="did not end"):
        run_tool([sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(assemble, "TOOL_TIMEOUT", 60)
    with pytest.raises(AssemblyError, match=r"^\ufffdoops$"):
        run_tool([sys.executable, "-c", r"import sys; sys.stderr.buffer.write(b'\xffoops'); sys.exit(1)"])


def test_tool_versions_are_one_line():
    assert "\n" not in tool_version("as")
    assert tool_version("as").startswith("GNU as")
