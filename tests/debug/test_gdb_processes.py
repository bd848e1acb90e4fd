"""Processes as gdb's inferiors: fork, vfork, exec and thread events, told as gdb's own target of Linux tells them.

What is expected was seen with gdb 13.1 on the same programs natively (but for numbers of processes).
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from sandbox.debug.gdb.link import thread_id
from sandbox.debug.gdb.stub import Stub
from sandbox.debug.open import open_target
from sandbox.debug.worker import Remote
from sandbox.runner.target import resolve
from tests.debug.test_gdb import gdb, needs_gdb, serving
from tests.debug.test_gdb_threads import THREADS, values
from tests.debug.test_libraries import LIBC, LOADER, compiled, needs_glibc

FORKS = """
        .globl  _start, child, parent, after, word
_start: cmpl    $2, (%esp)              # argc: executed by itself
        je      ended
        mov     $CALL, %eax             # fork, or vfork
        int     $0x80
        test    %eax, %eax
        jz      child
parent: mov     $7, %eax                # waitpid
        mov     $-1, %ebx
        mov     $status, %ecx
        xor     %edx, %edx
        int     $0x80
after:  movzbl  status+1, %ebx
        add     word, %ebx
        mov     $1, %eax
        int     $0x80
child:  mov     $11, %eax               # execve("/proc/self/exe", {"/proc/self/exe", "x"})
        mov     $path, %ebx
        mov     $argv, %ecx
        xor     %edx, %edx
        int     $0x80
ended:  mov     $1, %eax
        mov     $7, %ebx
        int     $0x80
        .data
path:   .asciz  "/proc/self/exe"
arg:    .asciz  "x"
        .balign 4
argv:   .long   path, arg, 0
word:   .long   0
status: .long   0
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    (tmp_path / "forks.S").write_text(FORKS.replace("CALL", "2"))
    return str(tmp_path / "forks.S")


@pytest.fixture
def vforks(tmp_path: Path) -> str:
    (tmp_path / "vforks.S").write_text(FORKS.replace("CALL", "190"))
    return str(tmp_path / "vforks.S")


def told(image: str, *commands: str, words: tuple[str, ...] = ("--threads", "processes")) -> str:
    with serving(image, *words) as where:
        return gdb(where, *commands)


@needs_gdb
def test_a_fork_is_caught_and_the_child_left_alone(program: str) -> None:
    """The default: the parent is followed, breakpoints are not the child's."""
    seen = told(program, "break child", "catch fork", "continue", "info threads", "continue")
    assert "Catchpoint 2 (forked process 4)" in seen
    assert "[Detaching after fork from child process 4]" in seen
    assert len(re.findall(r"Thread 3\.3 ", seen)) == 1
    assert "Thread 4.4" not in seen
    assert "Breakpoint 1," not in seen
    assert "[Inferior 1 (process 3) exited with code 07]" in seen


@needs_gdb
def test_the_child_is_followed_and_executes(program: str) -> None:
    seen = told(
        program, "set follow-fork-mode child", "break child", "catch exec", "continue", "continue", "x/1i $pc",
        "continue",
    )  # fmt: skip
    assert "[Inferior 1 (process 3) detached]" in seen
    assert "Thread 2.1 hit Breakpoint 1, " in seen
    assert "Thread 2.1 hit Catchpoint 2 (exec'd /bin/forks)" in seen
    assert re.search(r"=> 0x\w+ <_start>:\tcmpl", seen), "a page that nobody has touched yet is read all the same"
    assert "[Inferior 2 (process 4) exited with code 07]" in seen


@needs_gdb
def test_both_are_kept_and_only_the_chosen_one_goes_on(program: str) -> None:
    """The child's data is its own; while it is held back the parent's wait says so."""
    seen = told(
        program, "set detach-on-fork off", "break child", "break parent", "continue", "info inferiors", "continue",
        "inferior 2", "continue", "set {int}&word = 77", "print {int}&word", "inferior 1", "print {int}&word",
        "inferior 2", "continue", "inferior 1", "continue",
    )  # fmt: skip
    assert "Thread 1.1 hit Breakpoint 2.1, " in seen
    assert re.search(r"^  2 +process 4 ", seen, re.M)
    assert "every task that may run sleeps; held back: task 4" in seen
    assert "Thread 2.1 hit Breakpoint 1.2, " in seen
    assert values(seen) == [77, 0]
    assert "[Inferior 2 (process 4) exited with code 07]" in seen
    assert "[Inferior 1 (process 3) exited with code 07]" in seen


@needs_gdb
def test_a_vfork_and_its_end(vforks: str) -> None:
    """Breakpoints of the parent are back when the child has executed (vforkdone)."""
    seen = told(vforks, "break after", "catch vfork", "continue", "continue", "info breakpoints", "continue")
    assert "Catchpoint 2 (vforked process 4)" in seen
    assert "[Detaching vfork parent process" not in seen
    assert "Breakpoint 1, " in seen
    assert "[Inferior 1 (process 3) exited with code 07]" in seen


@needs_gdb
def test_a_killed_child(program: str) -> None:
    seen = told(
        program, "set detach-on-fork off", "break child", "break parent", "continue", "kill inferiors 2",
        "info inferiors", "delete", "continue", "print $_exitcode",
    )  # fmt: skip
    assert re.search(r"^  2 +<null> ", seen, re.M)
    assert "[Inferior 1 (process 3) exited normally]" in seen, "SIGKILL is no exit status: the second byte is 0"


@needs_gdb
def test_threads_of_a_process(tmp_path: Path) -> None:
    """Threads have their process's number; scheduler-locking holds the others back, and they go on afterwards."""
    (tmp_path / "threads.S").write_text(THREADS)
    seen = told(
        str(tmp_path / "threads.S"), "break both", "continue", "info threads", "delete", "thread 2", "print $esi",
        "thread 1", "set scheduler-locking on", "break *(both+3)", "continue", "thread 2", "print $esi",
        "set scheduler-locking off", "continue",
    )  # fmt: skip
    assert re.search(r"Thread 3\.3 \(threads, \w+, CPU 0\)", seen)
    assert re.search(r"Thread 3\.4 \(threads, \w+, CPU 0\)", seen)
    first, second = values(seen)[:2]
    assert first == second, "the thread that spins stood still"
    assert "[Inferior 1 (process 3) exited with code 011]" in seen


@needs_gdb
@pytest.mark.parametrize("cpus", ["1", "2"])
def test_scheduler_locking_where_tasks_are_threads(tmp_path: Path, cpus: str) -> None:
    (tmp_path / "threads.S").write_text(THREADS)
    seen = told(
        str(tmp_path / "threads.S"), "break both", "continue", "delete", "set scheduler-locking on",
        "python spins = gdb.selected_inferior().threads()", "thread 1", "print (int)$esi", "until *(both+3)",
        "stepi", "print (int)$esi", "set scheduler-locking off", "continue",
        words=("--cpus", cpus),
    )  # fmt: skip
    assert values(seen)[-1] == 1004
    assert "exited with code 011" in seen


def test_ids_are_read() -> None:
    """gdb's manual, "Packets": thread-id syntax."""
    assert thread_id(b"p3.4") == (3, 4)
    assert thread_id(b"p3.-1") == (3, -1)
    assert thread_id(b"p3") == (3, -1)
    assert thread_id(b"p-1") == (-1, -1)
    assert thread_id(b"5") == (-1, 5)
    assert thread_id(b"-1") == (-1, -1)
    for bad in (b"", b"p", b"p.", b"p3.", b"px.1", b"p-2.1"):
        with pytest.raises(ValueError, match=r"."):
            thread_id(bad)


def test_who_does_not_know_of_processes_gets_tasks(program: str) -> None:
    """An older client, or ``set remote multiprocess-feature-packet off``."""
    image = resolve(program)
    ours, theirs = socket.socketpair()
    with Remote(lambda: open_target(image, image.config())) as made, ours, theirs:
        stub = Stub(made, ours, True)
        assert b"multiprocess" not in (stub.answer(b"qSupported:swbreak+") or b"")
        assert stub.answer(b"qC") == b"QC3"
        assert b"multiprocess+;fork-events+" in (stub.answer(b"qSupported:multiprocess+;swbreak+") or b"")
        assert stub.answer(b"qC") == b"QCp3.3"
        assert stub.answer(b"qfThreadInfo") == b"mp3.3"
        assert stub.answer(b"Tp3.3") == b"OK"
        assert stub.answer(b"Tp3.4") == b"E01"
        assert stub.answer(b"D;9") == b"E01"
        assert stub.answer(b"vKill;9") == b"E01"
        assert stub.answer(b"vAttach;3") == b"E01", "gdb has it already"
        assert stub.answer(b"QThreadEvents:1") == b"OK"
        assert stub.answer(b"vCont;c:p3.-1") == b"T05fork:p4.4;thread:p3.3;"
        assert stub.answer(b"D;4") == b"OK"
        assert stub.answer(b"vAttach;4") == b"T00thread:p4.4;"
        assert stub.answer(b"vCont;c") in (b"T05exec:2f62696e2f666f726b73;thread:p4.4;",)
        assert stub.answer(b"vCont;c") == b"W07;process:4"
        assert stub.answer(b"vCont;c") == b"W07;process:3"


@needs_gdb
def test_back_before_a_fork(program: str) -> None:
    """The child is no more, as gdb is told when the guest goes on; forward again it is forked again."""
    seen = told(
        program, "set detach-on-fork off", "catch fork", "continue", "stepi", "delete", "reverse-continue",
        "info symbol $pc", "continue", "info inferiors", "inferior 1", "catch fork", "continue", "info inferiors",
        "kill inferiors 3", "kill",
    )  # fmt: skip
    assert "No more reverse-execution history" in seen
    assert re.search(r"^_start in section .text", seen, re.M)
    assert "Program terminated with signal SIGKILL" in seen
    assert re.search(r"^\* 2 +<null> ", seen, re.M)
    assert "Thread 1.1 hit Catchpoint 2 (forked process 4)" in seen


def test_a_guest_that_was_killed_has_no_threads(program: str) -> None:
    """Under ``extended-remote``: until it is started again; nor has one at its end."""
    image = resolve(program)
    ours, theirs = socket.socketpair()
    with Remote(lambda: open_target(image, image.config())) as made, ours, theirs:
        stub = Stub(made, ours)
        assert stub.answer(b"!") == b"OK"
        assert stub.answer(b"Z0,8048000,1") == b"OK"
        assert stub.answer(b"vKill;1") == b"OK"
        assert stub.answer(b"qfThreadInfo") == b"l"
        assert (stub.answer(b"vRun;") or b"").endswith(b";thread:3;")
        assert stub.answer(b"qfThreadInfo") == b"m3"
        assert stub.answer(b"vCont;c") == b"W07"
        assert stub.answer(b"qfThreadInfo") == b"l"
        assert "(gdb)" in made.execute("info points").lines[0]
        Stub(made, ours)
        assert not any("(gdb)" in line for line in made.execute("info points").lines), "the next gdb's own only"


SPINS = """#include <pthread.h>
static volatile long spins, done, turns;
static void *spin(void *unused)
{
    while (!done)
        spins++;
    return unused;
}
static void work(void)
{
    for (int i = 0; i < 300000; i++)
        turns++;
}
int main(void)
{
    pthread_t other;
    pthread_create(&other, 0, spin, 0);
    while (spins < 100)
        ;
    work();
    work();
    work();
    done = 1;
    pthread_join(other, 0);
    return 5;
}
"""


@needs_gdb
@needs_glibc
@pytest.mark.parametrize("words", [("--threads", "processes"), ()], ids=["processes", "tasks"])
def test_next_with_scheduler_locking(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Over a call of 300,000 turns, many slices long, the other thread's counter stands; without the lock it grows."""
    program = compiled(tmp_path / "spins.c", SPINS, "-O0", "-pthread")
    files = ("--file", f"{LIBC}:/lib/libc.so.6", "--file", f"{LOADER}:/lib/ld-linux.so.2")
    seen = told(
        str(program), "break 20", "continue", "set scheduler-locking on", "print spins", "next", "next", "print spins",
        "set scheduler-locking off", "next", "print spins", "print turns", "continue", words=(*files, *words),
    )  # fmt: skip
    before, locked, free, turns = values(seen)
    assert before == locked
    assert free > locked
    assert turns == 900_000
    assert "exited with code 05" in seen
