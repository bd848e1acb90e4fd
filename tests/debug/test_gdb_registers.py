"""x87, SSE, segment and control registers as real gdb shows and sets them, beside gdb on this host's processor."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest

from sandbox.image.assemble import assemble_source
from tests.debug.test_gdb import gdb, needs_gdb, serving
from tests.debug.test_gdb_files import stub

PROGRAM = """
        .globl _start, there, after, patched
_start: fld1
        fldpi
        fldz
        fchs
        fldl2e
        fstp %st(3)
        movups words, %xmm1
        movups words + 16, %xmm7
        cvtsi2sd words, %xmm2
        ldmxcsr mode
        fldcw control
        stc
there:  nop
after:  fxch
        fstpl result
patched:
        mov $1, %ebx
        mov $1, %eax
        int $0x80
        .data
        .align 16
words:  .long 1, 2, 3, 0x40490fdb, 5, -1, 0x7fc00000, 8
mode:   .long 0x7f80
control: .word 0x67f
        .align 4
result: .long 0, 0
"""
SHOW = (
    "info float", "print $mxcsr", "print/x $fctrl", "print/x $ftag", "print/x $fstat", "print $xmm1.v4_float",
    "print $xmm7.v16_int8", "print $xmm2.v2_double", "info registers eax ebx ecx edx esi edi eip cs ss ds es fs gs",
    "print/x $eflags & 0xcd5", "print $st0", "print $st1",
)  # fmt: skip
SET = (
    "set $st0 = 2.5", "set $xmm1.v4_int32[2] = 77", "print $xmm1.v4_int32", "set $mxcsr = 0x1f80", "print/x $mxcsr",
    "set $fctrl = 0x27f", "print/x $fctrl", "set $eflags = 0x246", "set $esi = -2", "print $esi", "set $gs = 0x2b",
    "print $gs", "stepi", "stepi", "stepi", "print (double) {double} &result", "print $st0", "print/x $eflags & 0xcd5",
)  # fmt: skip


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registers")
    (folder / "fpu.S").write_text(PROGRAM)
    assemble_source(folder / "fpu.S", folder / "fpu")
    (folder / "fpu").chmod(0o755)
    return folder / "fpu"


def native(program: Path, *commands: str) -> str:
    """What gdb prints of it on this host.  Skips where it cannot."""
    words = ["set pagination off", "set confirm off", "break there", "run", *commands, "kill"]
    done = subprocess.run(
        ["gdb", "-nx", "-batch", *(word for each in words for word in ("-ex", each)), str(program)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if "Breakpoint 1, " not in done.stdout:
        pytest.skip("this host runs no i386 program under gdb")
    return done.stdout


def shown(told: str) -> list[str]:
    """The registers' lines; not where the last x87 instruction was, which the engine does not keep."""
    lines = [re.sub(r"\s+", " ", line).strip() for line in told.split("Breakpoint 1, ")[1].splitlines()]
    wanted = r"^(\$\d+ =|=>|R\d:|\w\w\w? 0x|Status|Control|Tag|TOP|PC:|RC:)"
    return [line for line in lines if re.search(wanted, line)]


@needs_gdb
@pytest.mark.skipif(platform.machine() not in ("x86_64", "i686"), reason="the host is no x86")
@pytest.mark.parametrize("commands", [SHOW, SET], ids=["shown", "set"])
def test_as_on_this_host(program: Path, commands: tuple[str, ...]) -> None:
    expected = shown(native(program, *commands))
    with serving(str(program)) as where:
        told = gdb(where, "break there", "continue", *commands, "kill")
    assert shown(told) == expected


@needs_gdb
def test_what_cannot_be_set_says_so(program: Path) -> None:
    """The kernel's control registers, a selector that would fault, reserved bits; IF stays on in a program."""
    with serving(str(program)) as where:
        told = gdb(
            where, "set $cr3 = 0", "set $gs = 0x10", "set $cs = 0", "set $mxcsr = 0x80000000", "info registers gs cs",
            "set $eflags = 0", "print $eflags", "set $cr2 = 0x1234", "print/x $cr2", "print/x $cr0 & 1", "continue",
        )  # fmt: skip
    assert told.count("Could not write register") == 4
    assert re.search(r"gs +0x0 ", told)
    assert re.search(r"cs +0x23 ", told)
    assert "$1 = [ IF ]" in told
    assert "$2 = 0x1234" in told
    assert "exited with code 01" in told


@needs_gdb
def test_code_that_gdb_changes_is_what_runs(program: Path) -> None:
    """At an instruction that has run already, so that the engine has it translated: SDM 3A, 8.1.3."""
    with serving(str(program)) as where:
        told = gdb(
            where, "tbreak patched", "continue", "stepi", "set $eip = patched", "print *(char*)patched@2",
            "set {int}(patched + 1) = 42", "continue",
        )  # fmt: skip
    assert "exited with code 052" in told


def test_so_many_changes_at_one_moment_are_one() -> None:
    """gdb writes register by register: none of them is forgotten, and going back still works."""
    with stub() as made:
        first = made.answer(b"p6")
        for number in range(200):
            assert made.answer(b"P3=%s" % number.to_bytes(4, "little").hex().encode()) == b"OK"
        assert made.answer(b"P6=78563412") == b"OK"
        assert (made.answer(b"s") or b"").startswith(b"T05")
        assert (made.answer(b"p3"), made.answer(b"p6")) == (b"c7000000", b"78563412")
        assert made.answer(b"bs") is not None
        made.answer(b"R")
        assert made.answer(b"p6") == first


@needs_gdb
def test_a_rom_takes_them_all() -> None:
    """Nobody but gdb owns a bare machine's registers: with CR0.PG cleared a linear address is a physical one."""
    with serving("images/rom-double-fault") as where:
        told = gdb(
            where, "info registers cr0 cs cs_base", "break *0x1001fa", "continue", "print/x $cr0 >> 31",
            "set $cr0 = $cr0 & 0x7fffffff", "print/x $cr0 >> 31", "stepi", "set $ds_base = 0x100", "print/x $ds_base",
            "set $es = 0x10", "print/x $es", "kill",
        )  # fmt: skip
    values = re.findall(r"^\$\d+ = (\S+)", told, re.M)
    assert values[-2:] == ["0x100", "0x10"]
    assert values[1] == "0x0"


@needs_gdb
def test_16_bit_code_of_a_rom() -> None:
    """rom-vm86's first instruction in virtual-8086 mode is MOV AX, 0x1234 at 2000:0000 (its source)."""
    with serving("images/rom-vm86", once=False) as where:
        told = gdb(
            where, "monitor catch mode vm86", "continue", "print/x $pc", "print/x $ip", "print/x $cs",
            "set architecture auto", "disconnect", f"target remote {where}", "x/1i $pc",
            "break *0x20007", "continue", "x/1i $pc", "print/x $ip", "set $pc = 0x20003", "print/x $ip", "kill",
        )  # fmt: skip
    values = re.findall(r"^\$\d+ = (0x\w+)", told, re.M)
    assert values == ["0x20000", "0x0", "0x2000", "0x7", "0x3"]
    assert "mov    $0x1234,%ax" in told
    assert "Breakpoint 1, 0x00020007 in" in told
    assert re.search(r"=> 0x20007:\tint    \$0x21", told)
