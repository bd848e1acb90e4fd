"""Arguments that few programs give: clock ids, epoll's refusals, futexes on protected pages.  Values of a Linux run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Program, Run
from tests.kernel.calls import Call, native_results, results

EPERM, ENOENT, EFAULT, EEXIST, EINVAL, EOPNOTSUPP = -1, -2, -14, -17, -22, -95
DATA = """
in:        .long 1, 0, 0
exclusive: .long 0x10000001, 0, 0
priority:  .long 0x10000002, 0, 0
short_time: .long 0, 1000
zero:      .asciz "/dev/zero"
null:      .asciz "/dev/null"
        .bss
        .balign 4096
page:   .skip 8192
        .data
"""
CASES: dict[str, list[tuple[Call, int]]] = {
    "epoll of what has no poll": [
        (("epoll_create1", 0), 3), (("open", "offset zero", 0), 4), (("open", "offset null", 0), 5),
        (("epoll_ctl", 3, 1, 4, "offset in"), EPERM), (("epoll_ctl", 3, 1, 5, "offset in"), EPERM),
        (("epoll_ctl", 3, 2, 4, 0), EPERM),
    ],
    "exclusive": [
        (("epoll_create1", 0), 3), (("eventfd2", 0, 0), 4), (("epoll_ctl", 3, 1, 4, "offset priority"), EINVAL),
        (("epoll_ctl", 3, 1, 4, "offset exclusive"), 0), (("epoll_ctl", 3, 3, 4, "offset in"), EINVAL),
        (("epoll_ctl", 3, 1, 4, "offset in"), EEXIST), (("epoll_ctl", 3, 2, 4, 0), 0),
        (("epoll_ctl", 3, 3, 4, "offset in"), ENOENT),
    ],
    "clocks": [
        *[(("clock_gettime", clock, "offset buf"), 0) for clock in (0, 1, 2, 3, 4, 5, 6, 7, 11)],
        *[(("clock_gettime", clock, "offset buf"), EINVAL) for clock in (10, 12, 13, 15, 16)],
        (("clock_gettime", "0xFFFFFFFA", "offset buf"), 0), (("clock_gettime", "0xFFFFFFFB", "offset buf"), EINVAL),
        *[(("clock_nanosleep", clock, 0, "offset short_time", 0), 0) for clock in (0, 1, 7, 11)],
        *[(("clock_nanosleep", clock, 0, "offset short_time", 0), EOPNOTSUPP) for clock in (3, 4, 5, 6)],
        *[(("clock_nanosleep", clock, 0, "offset short_time", 0), EINVAL) for clock in (10, 12)],
    ],
    "futex on PROT_NONE": [
        (("mprotect", "offset page", 4096, 0), 0), (("futex", "offset page", 1, 1), EFAULT),
        (("futex", "offset page", 129, 1), 0),
    ],
    "personality": [
        (("personality", 0x40000), 0), (("personality", -1), 0x40000), (("personality", 0), 0x40000),
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_kin(run: Run, program: Program, tmp_path: Path, case: str) -> None:
    calls, wanted = [call for call, _ in CASES[case]], [value for _, value in CASES[case]]
    if case != "personality":  # the host's own differs: PER_LINUX32, what its shell has set
        assert native_results(program, tmp_path, calls, DATA) == wanted
    assert results(run, calls, DATA)[0] == wanted


def test_clone_parent(run: Run) -> None:
    """clone(2), CLONE_PARENT: the child's parent is that of its maker, which is told by SIGCHLD and waits for it."""
    text = """
        .set SYS_clone, 120
_start: fork_to maker
        sys waitpid, -1, 0, 0
        sys waitpid, -1, "offset status", 0
        expect_at status, 0x300, 1
        pass
maker:  sys clone, 0x8011, 0, 0, 0, 0
        test eax, eax
        jz  made
        sys exit, 0
made:   sys nanosleep, "offset t", 0
        sys getppid
        sys exit, eax
        .data
t:      .long 1, 0
status: .long 0
"""
    assert run(text).status == 0
