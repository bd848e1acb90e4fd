"""The strings of execve: argv and envp, read from the caller and held against Linux's limits (execve(2), "Limits")."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from sandbox.kernel.abi.errno import E2BIG, KernelError
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.rlimit import RLIMIT_STACK
from sandbox.kernel.task.task import Task
from sandbox.x86.paging import PAGE_SIZE

ARG_MAX = 131072
"""Bytes that are always possible."""
MAX_ARG_STRLEN = 32 * PAGE_SIZE
"""Bytes of one string with its NUL."""
MOST = 6 << 20
"""Bytes that are possible at most: three quarters of the usual stack limit of 8 MB."""
POINTER = 4


def user_strings(kernel: Kernel, task: Task, array: int) -> list[bytes]:
    """The strings that a NULL-terminated array of pointers names; a NULL array is empty, as Linux has it.

    Raises KernelError: EFAULT, E2BIG.
    """
    found: list[bytes] = []
    total = 0
    for pointer in _pointers(kernel, task, array):
        string = kernel.uaccess.get_long_string(task, pointer, MAX_ARG_STRLEN)
        if string is None or total + len(string) >= MOST:
            raise KernelError(E2BIG)
        found.append(string)
        total += len(string) + 1
    return found


def _pointers(kernel: Kernel, task: Task, array: int) -> list[int]:
    """The words up to the first NULL, read a page at a time."""
    found: list[int] = []
    while array and len(found) * POINTER < MOST:
        if array % POINTER:
            piece = (kernel.uaccess.get_word(task, array),)
        else:
            data = kernel.uaccess.get_user(task, array, PAGE_SIZE - array % PAGE_SIZE)
            piece = struct.unpack(f"<{len(data) // POINTER}I", data)
        if 0 in piece:
            return found + list(piece[: piece.index(0)])
        found += piece
        array += len(piece) * POINTER
    if array:
        raise KernelError(E2BIG)
    return found


def check_size(task: Task, name: bytes, argv: Sequence[bytes], envp: Sequence[bytes]) -> None:
    """Strings and pointers have a quarter of the stack limit.  Raises KernelError(E2BIG)."""
    stack = task.limits[RLIMIT_STACK][0]
    limit = max(min(MOST, stack // 4), ARG_MAX)
    pointers = (max(1, len(argv)) + len(envp)) * POINTER
    strings = [len(each) + 1 for each in (name, *argv, *envp)]
    on_stack = -(-(sum(strings) + POINTER) // PAGE_SIZE) * PAGE_SIZE
    if pointers + sum(strings) > limit or max(strings) > MAX_ARG_STRLEN or on_stack > stack:
        raise KernelError(E2BIG)
