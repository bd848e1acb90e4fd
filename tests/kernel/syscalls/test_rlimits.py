"""RLIMIT_FSIZE, RLIMIT_SIGPENDING and RLIMIT_CPU; the numbers are those of the same calls on Linux 6.18."""

from __future__ import annotations

from tests.conftest import Run

NAMES = """
        .set SYS_setrlimit, 75
        .set SYS_ftruncate, 93
        .set SYS_rt_sigaction, 174
        .set SYS_rt_sigprocmask, 175
        .set SYS_rt_sigqueueinfo, 178
        .set SYS_kill, 37
"""
FSIZE = (
    NAMES
    + """
_start: sys rt_sigaction, 25, "offset action", 0, 8
        sys setrlimit, 1, "offset limit"
        sys open, "offset name", 0x242, 0x180
        mov [file], eax
        sys write, [file], "offset name", 26
        expect eax, 10, 1
        expect_at caught, 0, 2
        sys write, [file], "offset name", 26
        expect eax, -27, 3
        expect_at caught, 1, 4
        sys write, [file], "offset name", 0
        expect eax, 0, 5
        sys ftruncate, [file], 11
        expect eax, -27, 6
        expect_at caught, 2, 7
        sys ftruncate, [file], 5
        expect eax, 0, 8
        sys ftruncate, [file], 10
        expect eax, 0, 9
        pass
handle: inc dword ptr [caught]
        ret
        .data
limit:  .long 10, 50
action: .long handle, 0, 0, 0, 0
name:   .asciz "/tmp/fsize-and-more-letters"
        .bss
caught: .skip 4
file:   .skip 4
"""
)


def test_files_grow_up_to_the_limit(run: Run) -> None:
    assert run(FSIZE).status == 0


def test_sigxfsz_kills(run: Run) -> None:
    text = FSIZE.replace('sys rt_sigaction, 25, "offset action", 0, 8', "")
    assert run(text).signal == 25


def test_signals_wait_up_to_the_limit(run: Run) -> None:
    """sigqueue is EAGAIN beyond it; what kill sends is known to wait; others lose their code."""
    text = (
        NAMES
        + """
_start: sys rt_sigprocmask, 0, "offset all", 0, 8
        sys setrlimit, 11, "offset limit"
        sys getpid
        mov [me], eax
        sys rt_sigqueueinfo, [me], 34, "offset info"
        expect eax, 0, 1
        sys rt_sigqueueinfo, [me], 34, "offset info"
        expect eax, 0, 2
        sys rt_sigqueueinfo, [me], 34, "offset info"
        expect eax, -11, 3
        sys kill, [me], 35
        expect eax, 0, 4
        sys rt_sigqueueinfo, [me], 12, "offset info"
        expect eax, 0, 5
        pass
        .data
all:    .long -1, -1
limit:  .long 2, 2
info:   .long 34, 0, -1
        .skip 116
        .bss
me:     .skip 4
"""
    )
    assert run(text).status == 0


CPU = (
    NAMES
    + """
_start: {handle}
        sys setrlimit, 0, "offset limit"
1:      mov eax, 20
        int 0x80
        cmp dword ptr [caught], 2
        jb 1b
        {after}
handle: inc dword ptr [caught]
        ret
        .data
limit:  .long 1, {hard}
action: .long handle, 0, 0, 0, 0
        .bss
caught: .skip 4
"""
)


def test_sigxcpu_comes_every_second_of_processor_time(run: Run) -> None:
    result = run(CPU.format(handle='sys rt_sigaction, 24, "offset action", 0, 8', after="pass", hard=9))
    assert result.status == 0
    assert 2_000_000_000 <= result.summary.system_calls * 10_000 + result.summary.blocks < 2_100_000_000


def test_sigxcpu_kills_and_the_hard_limit_cannot_be_caught(run: Run) -> None:
    assert run(CPU.format(handle="", after="pass", hard=2)).signal == 24
    caught = CPU.format(handle='sys rt_sigaction, 24, "offset action", 0, 8', after="jmp 1b", hard=2)
    assert run(caught).signal == 9


THREADS = (
    NAMES
    + """
        .set SYS_clone, 120
_start: sys rt_sigaction, 24, "offset action", 0, 8
        mov esi, 30000              # 0.3 s before there is a limit
1:      mov eax, 20
        int 0x80
        dec esi
        jnz 1b
        sys setrlimit, 0, "offset limit"
        sys clone, 0x50f00, "offset stack + 4096"
        test eax, eax
        jz thread
2:      mov eax, 20
        int 0x80
        cmp dword ptr [caught], 2
        jb 2b
        pass
thread: mov esi, 40000
3:      mov eax, 20
        int 0x80
        dec esi
        jnz 3b
        sys exit, 0
handle: inc dword ptr [caught]
        ret
        .data
limit:  .long 1, 9
action: .long handle, 0, 0, 0, 0
        .bss
caught: .skip 4
stack:  .skip 4096
"""
)


def test_the_limit_counts_all_threads_those_that_have_ended_and_what_was_before_it(run: Run) -> None:
    """setrlimit(2): the time that the process has consumed."""
    result = run(THREADS)
    assert result.status == 0
    assert 2_000_000_000 <= result.summary.system_calls * 10_000 + result.summary.blocks < 2_100_000_000
