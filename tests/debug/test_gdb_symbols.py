"""The kernel's routines and loaded modules by name, with real gdb."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from sandbox.kernel.arch.vmlinux import IMAGE
from tests.debug.test_gdb import gdb, needs_gdb, serving

ROOT = Path(__file__).resolve().parents[2]


def address_of(file: Path, name: str) -> int:
    """What nm says."""
    told = subprocess.run(["nm", str(file)], capture_output=True, text=True, check=True).stdout
    return next(int(line.split()[0], 16) for line in told.splitlines() if line.split()[-1] == name)


@needs_gdb
def test_a_module_and_the_kernel_are_libraries() -> None:
    with serving("images/uaccess") as where:
        told = gdb(
            where, "sharedlibrary", "info sharedlibrary", "info symbol $eip", "info address clear_page",
            "break cleanup_module", "continue",
            "print/x $eip - (unsigned) &init_module", "x/1i $eip", "delete", "continue",
        )  # fmt: skip
    assert re.search(r"Yes \(\*\) +target:/sandbox/kernel/vmlinux.elf", told)
    assert re.search(r"Yes \(\*\) +target:/sandbox/modules/uaccess.o", told)
    assert "init_module in section .text" in told
    assert f'"clear_page" is at {address_of(IMAGE, "clear_page"):#x}' in told
    assert re.search(r"Breakpoint 1, 0x\w+ in cleanup_module", told)
    module = ROOT / "images/uaccess/uaccess.o"
    apart = address_of(module, "cleanup_module") - address_of(module, "init_module")
    assert f"$1 = {apart:#x}" in told
    assert "exited normally" in told


@needs_gdb
def test_kernel_routines_under_a_program() -> None:
    """The lines that ``monitor add-symbols`` prints, given back; then the fault's copy, by its name."""
    with serving("images/cow-fork") as where:
        lines = re.findall(r"^add-symbol-file .*$", gdb(where, "monitor add-symbols", "kill"), re.M)
    assert lines == ["add-symbol-file target:/sandbox/kernel/vmlinux.elf"]
    with serving("images/cow-fork") as where:
        told = gdb(
            where, *lines, "tbreak copy_page", "continue", "info symbol $eip", "tbreak clear_page", "reverse-continue",
            "info symbol $eip", "kill",
        )  # fmt: skip
    assert re.search(rf"hit Temporary breakpoint 1, 0x{address_of(IMAGE, 'copy_page'):08x} in copy_page", told)
    assert re.search(r"^clear_page in section .text of target:/sandbox/kernel/vmlinux.elf", told, re.M)


@needs_gdb
def test_a_program_beside_modules() -> None:
    with serving("images/user-access") as where:
        lines = re.findall(r"^add-symbol-file .*$", gdb(where, "monitor add-symbols", "kill"), re.M)
    assert len(lines) > 1
    with serving("images/user-access") as where:
        told = gdb(where, *lines, "info symbol cleanup_module", "break cleanup_module", "continue", "bt 1", "continue")
    assert re.search(r"^cleanup_module in section .text of target:/sandbox/modules/", told, re.M)
    assert re.search(r"Breakpoint 1, 0x\w+ in cleanup_module", told)
