"""fork, wait and exit: what is shared, what is copied, who is told, and that nothing is left."""

from __future__ import annotations

import pytest

from sandbox.kernel.task.task import State
from tests.conftest import MakeSession, Run

TREE = """
_start: mov ebp, 6
1:      fork_to child
        dec ebp
        jnz 1b
        mov ebp, 6
2:      sys waitpid, -1, 0, 0
        test eax, eax
        js bad
        dec ebp
        jnz 2b
        sys waitpid, -1, 0, 0
        expect eax, -ECHILD, 2
        pass
bad:    mov ebx, 1
        jmp fail
child:  mov ecx, 30
        mov edi, offset area
3:      mov [edi], ebp
        add edi, PAGE
        loop 3b
        sys exit, ebp
        .bss
area:   .skip 30*PAGE
"""


@pytest.mark.parametrize("cpus", [1, 3])
def test_every_frame_comes_back(session: MakeSession, paging: str, cpus: int) -> None:
    """After the last exit only the page cache and the spare kernel stacks are in use."""
    made = session(TREE, paging=paging, cpus=cpus)
    result = made.finish()
    assert (result.status, result.error) == (0, "")
    kernel = made.kernel
    assert [task.comm for task in kernel.tasks.values()] == ["init"]
    spare = sum(len(frames) for _, frames in kernel.stacks._stacks)
    held = kernel.pgdat.total_frames - kernel.pgdat.free_frames
    assert held == spare + len(kernel.pagecache)
    kernel.pagecache.shrink_mmap(1 << 20)
    assert kernel.pgdat.total_frames - kernel.pgdat.free_frames == spare
    assert all(depth == 0 for depth in kernel.highmem.depth)
    assert all(cpu.current is None for cpu in kernel.cpus)
    assert not any(queue.tasks for queue in kernel.sched.queues)


def test_descriptors_share_their_position(run: Run) -> None:
    text = """
_start: sys open, "offset name", 0, 0
        mov edi, eax
        fork_to child
        expect_exit 97, 1
        sys read, edi, "offset letter", 1
        expect_byte_at letter, 98, 2
        pass
child:  sys read, edi, "offset letter", 1
        movzx ebx, byte ptr [letter]
        mov eax, SYS_exit
        int 0x80
        .data
name:   .asciz "/data"
letter: .byte 0
"""
    assert run(text, files={"/data": b"abc"}).status == 0


def test_registers_and_break_are_inherited(run: Run, paging: str) -> None:
    text = """
_start: mov eax, SYS_brk
        xor ebx, ebx
        int 0x80
        lea esi, [eax + 8192]
        sys brk, esi
        mov dword ptr [esi - 4], 77
        mov edi, 0x1234
        mov ebp, 0x5678
        fork_to child
        expect_exit 0, 1
        pass
child:  expect edi, 0x1234, 2
        expect ebp, 0x5678, 3
        expect_at esi-4, 77, 4
        sys brk, 0
        expect eax, esi, 5
        sys exit, 0
"""
    assert run(text, paging=paging).status == 0


def test_waiting_for_one_of_two(run: Run) -> None:
    text = """
_start: fork_to slow
        mov edi, eax
        fork_to fast
        mov esi, eax
        sys waitpid, edi, 0, 0
        expect eax, edi, 1
        sys waitpid, edi, 0, 0
        expect eax, -ECHILD, 2
        sys waitpid, esi, 0, WNOHANG
        expect eax, esi, 3
        sys wait4, -1, 0, 4
        expect eax, -22, 4
        pass
slow:   mov ecx, 100000
1:      loop 1b
        sys exit, 0
fast:   sys exit, 0
"""
    assert run(text).status == 0


def test_orphans_go_to_init(run: Run) -> None:
    """Those that have ended and those that have not: their grandparent has nobody to wait for (wait(2), NOTES)."""
    text = """
_start: fork_to middle
        mov esi, eax
        sys waitpid, -1, "offset status", 0
        expect eax, esi, 1
        expect_at status, 0, 2
        sys waitpid, -1, 0, 0
        expect eax, -10, 3
        pass
middle: fork_to inner
        sys nanosleep, "offset long", 0
        sys exit, 0
inner:  fork_to leaf
        sys nanosleep, "offset short", 0
        sys exit, 0
leaf:   sys exit, 5
        .data
long:   .long 2, 0
short:  .long 1, 0
status: .long 0
"""
    assert run(text).status == 0


def test_getppid_after_the_parents_death(run: Run) -> None:
    """getppid(2): 1, that of init, for the first program's own parent is another."""
    text = """
_start: fork_to middle
        wait_child
        sys getppid
        expect eax, 2, 1
        sys nanosleep, "offset long", 0
        pass
middle: fork_to inner
        sys exit, 0
inner:  sys nanosleep, "offset t", 0
        sys getppid
        add al, '0'
        mov [letter], al
        sys write, 1, "offset letter", 1
        sys exit, 0
        .data
t:      .long 1, 0
long:   .long 2, 0
letter: .byte 0
"""
    result = run(text)
    assert (result.status, result.stdout) == (0, b"1")


def test_the_program_is_an_ordinary_child(run: Run) -> None:
    """As from a script: neither process 1 nor a leader, in its parent's group; natively all of these give 0.

    kill(2): -1 is everybody, so that nobody can signal a group 1 by killpg; setsid(2) fails for a leader.
    """
    text = """
        .set SYS_getpgrp, 65
        .set SYS_kill, 37
        .set SYS_setpgid, 57
        .set SYS_setsid, 66
_start: sys getpgrp
        mov ebx, eax
        neg ebx
        cmp ebx, -1
        je  bad
        sys kill, ebx, 0
        expect eax, 0, 1
        sys kill, 0, 0
        expect eax, 0, 2
        sys getppid
        sys kill, eax, 0
        expect eax, 0, 3
        sys getpgrp
        mov edi, eax
        sys setpgid, 0, 0
        expect eax, 0, 4
        sys setpgid, 0, edi
        expect eax, 0, 5
        sys setsid
        mov esi, eax
        sys getpid
        expect eax, esi, 6
        pass
bad:    mov ebx, 9
        jmp fail
"""
    assert run(text).status == 0


@pytest.mark.parametrize(("end", "status"), [("sys exit, 0x1ff", 0xFF00), ("ud2", 4), ("sys exit, -1", 0xFF00)])
def test_wait_status(run: Run, end: str, status: int) -> None:
    text = f"""
_start: fork_to child
        wait_child
        and eax, 0xFFFFFF7F
        expect eax, {status}, 1
        pass
child:  {end}
"""
    assert run(text).status == 0


def test_killing_a_sleeper(run: Run) -> None:
    text = """
_start: fork_to child
        mov esi, eax
        sys sched_yield
        mov eax, 37
        mov ebx, esi
        mov ecx, 15
        int 0x80
        expect eax, 0, 1
        expect_killed 15, 2
        mov eax, 37
        mov ebx, esi
        mov ecx, 15
        int 0x80
        expect eax, -3, 3
        pass
child:  mov eax, 29
        int 0x80
        sys exit, 0
"""
    assert run(text).status == 0


def test_fork_without_memory(session: MakeSession) -> None:
    """ENOMEM, and the parent is as it was: its pages are writable again, nothing leaks."""
    text = """
_start: mov dword ptr [v], 1
        mov ebp, 0
1:      fork_to child
        inc ebp
        cmp eax, 0
        jg 1b
        expect eax, -ENOMEM, 1
        mov dword ptr [v], 2
2:      mov eax, 37
        mov ebx, ebp
        add ebx, 3
        mov ecx, SIGKILL
        int 0x80
        dec ebp
        jnz 3f
        jmp 4f
3:      jmp 2b
4:      sys waitpid, -1, 0, 0
        cmp eax, 0
        jg 4b
        pass
child:  mov eax, 29
        int 0x80
        .data
v:      .long 0
"""
    made = session(text, ram=4 << 20)
    result = made.finish()
    assert (result.status, result.signal, result.error) == (0, 0, ""), result.headline()
    kernel = made.kernel
    spare = sum(len(frames) for _, frames in kernel.stacks._stacks)
    assert kernel.pgdat.total_frames - kernel.pgdat.free_frames == spare + len(kernel.pagecache)


def test_zombies_have_no_memory(session: MakeSession) -> None:
    text = '_start: fork_to child\n sys nanosleep, "offset t", 0\n pass\nchild: sys exit, 0\n .data\nt: .long 1, 0'
    made = session(text)
    states: list[tuple[State, bool]] = []
    made.load()
    kernel = made.kernel
    sleep = kernel.sched._wait_for_timer

    def look() -> None:
        states.extend((task.state, task.mm is None) for task in kernel.tasks.values() if task.pid == 4)
        sleep()

    kernel.sched._wait_for_timer = look  # type: ignore[method-assign]
    assert made.finish().passed
    assert states == [(State.ZOMBIE, True)]
