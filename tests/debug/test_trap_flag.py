"""A guest that sets TF itself: its traps are its own, also where a step or a watch stops at the same moment."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sandbox.debug.open import open_target
from sandbox.debug.worker import Remote, end_of
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.target import Target

SOURCE = """
        .globl _start, handler, store, value
        .data
value:  .long 0
count:  .long 0
action: .long handler, 0x04000004, restorer, 0, 0
        .text
handler:
        incl count
        ret
restorer:
        movl $173, %eax
        int $0x80
_start: movl $174, %eax                 # rt_sigaction(SIGTRAP, ...)
        movl $5, %ebx
        movl $action, %ecx
        xorl %edx, %edx
        movl $8, %esi
        int $0x80
        pushfl
        orl $0x100, (%esp)
        popfl
store:  movl $1, value
        nop
        pushfl
        andl $~0x100, (%esp)
        popfl
        movl count, %ebx
        movl $1, %eax
        int $0x80
"""
WAYS = {
    "free": (), "steps": ("step",) * 24, "a watch": ("watch value", "continue"), "break": ("break store", "continue"),
    "all at one moment": ("watch value", "break store", "continue", "step", "step", "next 3", "reverse-step", "step"),
    "out of the handler": ("break handler", "continue", "finish", "finish", "continue", "finish"),
}  # fmt: skip


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flag")
    (folder / "flag.S").write_text(SOURCE)
    command = ["gcc", "-m32", "-nostdlib", "-static", "-o", str(folder / "flag"), str(folder / "flag.S")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "flag"


@pytest.mark.parametrize("commands", WAYS.values(), ids=WAYS)
def test_as_many_traps_as_natively(program: Path, commands: tuple[str, ...]) -> None:
    natively = subprocess.run([str(program)], check=False).returncode
    image = Target("flag", "program", program.read_bytes())
    with Remote(lambda: open_target(image, KernelConfig(ram=16 << 20))) as made:
        for line in commands:
            assert not made.execute(line).error
        made.execute("delete")
        made.execute("continue")
        assert made.call(end_of) == (natively, 0, "")
    assert natively > 3
