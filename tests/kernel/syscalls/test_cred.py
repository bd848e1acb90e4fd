"""Users and groups (credentials(7)): the values are those of a Linux run as root, which is repeated where it can be."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from sandbox.kernel.abi.numbers import NUMBERS
from tests.conftest import Program, Run
from tests.kernel.calls import Call, is_native_root, native_results, results

EPERM, ESRCH, EACCES, EFAULT, EINVAL = -1, -3, -13, -14, -22
DATA = """
groups: .long 70000, 3, 9, 1
bad:    .long 5, -1
words:  .word 5, 65534, 2
"""

CASES: dict[str, list[tuple[Call, int]]] = {
    "setreuid": [
        (("setreuid32", 1000, 2000), 0), (("getuid32",), 1000), (("geteuid32",), 2000),
        (("setreuid32", -1, 0), EPERM), (("setreuid32", 2000, -1), 0), (("getuid32",), 2000),
        (("setreuid32", 1000, -1), EPERM), (("setuid32", 0), EPERM), (("setuid32", -1), EINVAL),
    ],
    "setreuid, the saved id follows": [
        (("setreuid32", -1, 5), 0), (("setreuid32", 5, 0), 0), (("setreuid32", 7, 8), 0), (("setresuid32", 8, 8, 7), 0),
        (("setreuid32", -1, 7), 0), (("setuid32", 9), EPERM),
    ],
    "setresuid": [
        (("setresuid32", 1, 2, 3), 0), (("setresuid32", 3, 1, 2), 0), (("setresuid32", -1, 4, -1), EPERM),
        (("setresuid32", -1, -1, -1), 0), (("getuid32",), 3), (("geteuid32",), 1), (("setuid32", 2), 0),
        (("setuid32", 1), EPERM), (("setuid32", 3), 0), (("geteuid32",), 3),
    ],
    "root comes back while it is kept in one": [
        (("setresuid32", -1, 1000, -1), 0), (("setgid32", 5), EPERM), (("setuid32", 0), 0), (("geteuid32",), 0),
        (("setuid32", 1000), 0), (("setuid32", 0), EPERM),
    ],
    "setfsuid": [
        (("setfsuid32", 77), 0), (("setfsuid32", -1), 77), (("setresuid32", 1, 2, 3), 0), (("setfsuid32", 3), 2),
        (("setfsuid32", 77), 3), (("setfsuid32", 1), 3), (("setfsuid", 0xFFFF), 1), (("setfsgid32", 9), 0),
        (("setfsgid", 0xFFFF), 0),
    ],
    "gids": [
        (("setresgid32", 5, 6, 7), 0), (("setregid32", 8, -1), 0), (("getgid32",), 8), (("getegid32",), 6),
        (("setgid32", 9), 0), (("getgid",), 9), (("setgid32", -1), EINVAL), (("setresuid32", 1, 1, 1), 0),
        (("setgid32", 10), EPERM), (("setregid32", 9, 9), 0), (("setregid32", 9, 8), EPERM),
    ],
    "16 bits": [
        (("setresuid32", 70000, 70000, 70000), 0), (("getuid",), 65534), (("geteuid",), 65534), (("geteuid32",), 70000),
        (("setuid", 65535), EINVAL), (("setuid", 65534), EPERM), (("setreuid", 65535, 0), EPERM),
        (("setresuid", 0xFFFF, 0xFFFF, 0xFFFF), 0),
    ],
    "16 bits are taken": [(("setuid", 0x10001), 0), (("getuid32",), 1)],
    "groups": [
        (("setgroups32", 4, "offset groups"), 0), (("getgroups32", 0, 0x10), 4),
        (("getgroups32", 3, "offset buf"), EINVAL),
        (("getgroups32", -1, "offset buf"), EINVAL), (("getgroups32", 9, 0x10), EFAULT),
        (("setgroups32", 65537, "offset groups"), EINVAL), (("setgroups32", 1, 0x10), EFAULT),
        (("setgroups32", 2, "offset bad"), EINVAL), (("getgroups", 9, 0x10), EFAULT),
        (("setgroups", 3, "offset words"), 0),
        (("getgroups", 3, "offset buf"), 3), (("setresuid32", 1, 1, 1), 0), (("setgroups32", 0, 0), EPERM),
    ],
    "places": [
        (("getresuid32", "offset buf", "offset buf", 0x10), EFAULT),
        (("getresgid", 0x10, "offset buf", "offset buf"), EFAULT),
    ],
    "others": [
        (("getppid",), 0), (("setresuid32", 4242, 4242, 4242), 0),
        (("kill", "r0", 0), EPERM), (("tkill", "r0", 0), EPERM),
        (("setpriority", 0, "r0", 5), EPERM), (("setpriority", 0, 0, 5), 0), (("setpriority", 0, 0, 2), EACCES),
        (("nice", -1), EPERM), (("getpriority", 2, 4243), ESRCH), (("getpriority", 2, 0), 15),
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_ids(run: Run, program: Program, tmp_path: Path, case: str) -> None:
    calls = [call for call, _ in CASES[case]]
    if is_native_root():
        assert _without_parent(case, native_results(program, tmp_path, calls, DATA)) == _without_parent(case)
    assert _without_parent(case, results(run, calls, DATA)[0]) == _without_parent(case)


def _without_parent(case: str, found: list[int] | None = None) -> list[int]:
    """What was found, or what is wanted, but for the parent's number."""
    wanted = [value for _, value in CASES[case]]
    calls = [call for call, _ in CASES[case]]
    return [value for call, value in zip(calls, found or wanted, strict=True) if call != ("getppid",)]


def test_groups_are_sorted_and_shown_in_both_widths(run: Run) -> None:
    """groups_sort of setgroups(2), Linux 6.1; ids that do not fit in 16 bits are 65534."""
    calls: list[Call] = [
        ("setgroups32", 4, "offset groups"), ("getgroups32", 8, "offset buf"), ("getgroups", 8, "offset buf + 16"),
        ("setresuid32", 1, 2, 3), ("getresuid32", "offset buf + 32", "offset buf + 36", "offset buf + 40"),
        ("getresuid", "offset buf + 44", "offset buf + 46", "offset buf + 48"),
    ]  # fmt: skip
    got, buf = results(run, calls, DATA)
    assert got == [0, 4, 4, 0, 0, 0]
    assert struct.unpack_from("<4I4H8x3I3H", buf) == (1, 3, 9, 70000, 1, 3, 9, 65534, 1, 2, 3, 1, 2, 3)


def test_a_set_user_id_program_runs_as_its_owner(run: Run) -> None:
    """execve(2): the effective and the saved uid are the owner's, the real one stays; AT_SECURE is 1 (getauxval(3))."""
    names = ("getuid32", "getresuid32", "setresuid32", "chmod", "chown32", "execve")
    sets = "".join(f"        .set SYS_{name}, {NUMBERS[name]}\n" for name in names)
    result = run(
        sets
        + """
_start: sys getuid32
        cmp eax, 5
        je  again
        mov esi, [esp + 4]
        sys chown32, esi, 1000, -1
        mov esi, [esp + 4]
        sys chmod, esi, 04755
        sys setresuid32, 5, 6, 7
        lea ecx, [esp + 4]
        sys execve, [esp + 4], ecx, 0
again:  sys getresuid32, "offset ids", "offset ids + 4", "offset ids + 8"
        lea ebx, [esp + 4]
1:      add ebx, 4
        cmp dword ptr [ebx - 4], 0
        jne 1b
        add ebx, 4
2:      mov eax, [ebx + 4]
        cmp dword ptr [ebx], 23
        lea ebx, [ebx + 8]
        jne 2b
        mov [ids + 12], eax
        sys write, 1, "offset ids", 16
        pass
        .bss
ids:    .skip 16
"""
    )
    assert struct.unpack("<4I", result.stdout) == (5, 1000, 1000, 1), result.headline()
