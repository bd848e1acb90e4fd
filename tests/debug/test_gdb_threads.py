"""gdb's threads: tasks, or CPUs; which of them a step is of, and what signals several actions carry."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from sandbox.debug.gdb.running import Action, action_of
from sandbox.debug.gdb.stub import Stub
from sandbox.debug.open import open_target
from sandbox.debug.worker import Remote
from sandbox.runner.target import resolve
from tests.debug.test_gdb import gdb, needs_gdb, serving

THREADS = """
        .globl _start, thread, both, spin
_start: mov $120, %eax                  # clone: a thread
        mov $0x10f00, %ebx
        mov $stack_end, %ecx
        xor %edx, %edx
        xor %esi, %esi
        xor %edi, %edi
        int $0x80
        test %eax, %eax
        jz thread
        mov $1000, %esi
1:      cmpl $1, ready
        jne 1b
both:   inc %esi
        inc %esi
        inc %esi
        inc %esi
        movl $1, leave
        mov $1, %eax                    # exit of this thread; the other one goes on
        xor %ebx, %ebx
        int $0x80
thread: mov $2000, %esi
        movl $1, ready
spin:   inc %esi
        cmpl $1, leave
        jne spin
        mov $252, %eax
        mov $9, %ebx
        int $0x80
        .bss
ready:  .long 0
leave:  .long 0
stack:  .skip 4096
stack_end:
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    (tmp_path / "threads.S").write_text(THREADS)
    return str(tmp_path / "threads.S")


def values(told: str) -> list[int]:
    return [int(each) for each in re.findall(r"^\$\d+ = (-?\d+)", told, re.M)]


@needs_gdb
@pytest.mark.parametrize(("cpus", "other"), [("1", 2), ("2", 3)])
def test_a_step_is_of_the_chosen_thread(program: str, cpus: str, other: int) -> None:
    """With and without scheduler-locking: one instruction of this task, whatever the others do meanwhile.

    On two CPUs gdb's number 2 was CPU 1, before it ran the new thread.
    """
    with serving(program, "--cpus", cpus) as where:
        told = gdb(
            where, "break both", "continue", "delete", "info threads", "print $esi", "stepi", "print $esi",
            "set scheduler-locking on", "stepi", "print $esi", f"thread {other}", "stepi", "stepi", "stepi", "stepi",
            "info symbol $eip", "thread 1", "print $esi", "set scheduler-locking off", "continue",
        )  # fmt: skip
    assert values(told)[:3] == [1000, 1001, 1002]
    assert values(told)[-1] in (1002, 1003, 1004), "the other one may have gone on"
    assert re.search(r"Thread 3 \(threads, running, CPU 0\)", told)
    assert re.search(r"Thread 4 \(threads, \w+, CPU \d\)", told)
    assert re.search(r"^(spin|thread)", told, re.M)
    assert "exited with code 011" in told


def test_a_range_is_stepped_in_one_packet(tmp_path: Path) -> None:
    """``vCont;r``: a loop's 101 instructions, up to the first that is outside."""
    (tmp_path / "range.S").write_text(
        ".globl _start, after\n_start: mov $50, %ecx\n1: dec %ecx\njnz 1b\nafter: mov $1, %eax\nint $0x80\n"
    )
    image = resolve(str(tmp_path / "range.S"))
    ours, theirs = socket.socketpair()
    with Remote(lambda: open_target(image, image.config())) as made, ours, theirs:
        first, after = (int(made.execute(f"print {name}").lines[0].split()[0], 16) for name in ("_start", "after"))
        stub = Stub(made, ours)
        reply = stub.answer(b"vCont;r%x,%x:3" % (first, after)) or b""
        assert reply.startswith(b"T05")
        assert reply.endswith(b";thread:3;")
        assert stub.answer(b"p8") == after.to_bytes(4, "little").hex().encode()
        assert stub.answer(b"p1") == b"00000000"


@needs_gdb
def test_cpus_are_threads() -> None:
    with serving("images/smp-refill", "--cpus", "2", "--threads", "cpus") as where:
        told = gdb(
            where, "info threads", "stepi", "thread 2", "info registers cr0", "monitor when", "thread 1",
            "info registers eip", "kill",
        )  # fmt: skip
    assert re.search(r"\* 1 +Thread 1 \(CPU 0, task 3\)", told)
    assert re.search(r"  2 +Thread 2 \(CPU 1\)", told)


@needs_gdb
def test_cpus_of_a_rom_step_alone() -> None:
    """A step of a CPU is one of its instructions, while the other one goes on in its turns."""
    with serving("images/rom-smp-shootdown") as where:
        told = gdb(
            where, "break *$eip", "thread 1", "stepi", "print $eip", "stepi", "print $eip", "info threads", "kill",
        )  # fmt: skip
    assert re.search(r"Thread 1 \(CPU 0\)", told)
    assert re.search(r"Thread 2 \(CPU 1\)", told)


def test_actions_are_read() -> None:
    """gdb's manual, "Packets": vCont;action[:thread-id]."""
    assert action_of(b"c") == Action(False)
    assert action_of(b"C0b:3") == Action(False, 11, 3)
    assert action_of(b"S1e:-1") == Action(True, 10, -1)
    assert action_of(b"r8048000,8048010:4") == Action(True, 0, 4, (0x8048000, 0x8048010))
    for bad in (b"", b"t", b"c1", b"Czz", b"C90", b"s:x", b"r1"):
        with pytest.raises(ValueError, match=r"."):
            action_of(bad)
