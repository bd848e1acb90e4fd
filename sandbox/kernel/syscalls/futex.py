"""futex(2): waiting, waking, moving who waits to another word; mutexes with priority inheritance; robust lists."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import NamedTuple

from sandbox.kernel.abi.errno import EAGAIN, EFAULT, EINVAL, ENOSYS, EPERM, KernelError
from sandbox.kernel.abi.flags import (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    FUTEX_CLOCK_REALTIME,
    FUTEX_PRIVATE_FLAG,
    FUTEX_WAIT,
    FUTEX_WAKE,
)
from sandbox.kernel.abi.structs import unpack_timespec, unpack_timespec64
from sandbox.kernel.base.time import BLOCK_NANOSECONDS
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.process.ptrace import may_access
from sandbox.kernel.syscalls.misc import clock_nanoseconds
from sandbox.kernel.syscalls.paths import signed
from sandbox.kernel.syscalls.process import find_task
from sandbox.kernel.task.futex import ANY, FUTEX_TID_MASK, Key
from sandbox.kernel.task.robust import HEAD_BYTES
from sandbox.kernel.task.task import Task

FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP, FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET = 3, 4, 5, 9, 10
FUTEX_LOCK_PI, FUTEX_UNLOCK_PI, FUTEX_TRYLOCK_PI, FUTEX_WAIT_REQUEUE_PI, FUTEX_CMP_REQUEUE_PI = 6, 7, 8, 11, 12
FUTEX_LOCK_PI2 = 13
LOCKS = (FUTEX_LOCK_PI, FUTEX_LOCK_PI2)
WAITS = (FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI, *LOCKS)
WITH_BITS = (FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET)
INHERITING = {*LOCKS, FUTEX_UNLOCK_PI, FUTEX_TRYLOCK_PI, FUTEX_WAIT_REQUEUE_PI, FUTEX_CMP_REQUEUE_PI}
OPERATIONS = {*WAITS, *WITH_BITS, *INHERITING, FUTEX_WAKE, FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP}
WITH_CLOCK = (FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI, FUTEX_LOCK_PI2)
COMMAND = ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)
WORD = 4
OPS: dict[int, Callable[[int, int], int]] = {
    0: lambda old, argument: argument,
    1: operator.add,
    2: operator.or_,
    3: lambda old, argument: old & ~argument,
    4: operator.xor,
}
"""FUTEX_OP_SET, ADD, OR, ANDN, XOR."""
COMPARISONS: dict[int, Callable[[int, int], bool]] = {
    0: operator.eq, 1: operator.ne, 2: operator.lt, 3: operator.le, 4: operator.gt, 5: operator.ge,
}  # fmt: skip
"""FUTEX_OP_CMP_EQ, NE, LT, LE, GT, GE."""


def sys_futex(
    kernel: Kernel, task: Task, address: int, what: int, value: int, timeout: int, second: int, third: int
) -> int:
    wanted = None
    if timeout and what & COMMAND in WAITS:
        wanted = unpack_timespec(kernel.uaccess.get_user(task, timeout, 8))
    return _futex(kernel, task, Words(address, what, value, timeout, second, third), wanted)


def sys_futex_time64(
    kernel: Kernel, task: Task, address: int, what: int, value: int, timeout: int, second: int, third: int
) -> int:
    wanted = None
    if timeout and what & COMMAND in WAITS:
        wanted = unpack_timespec64(kernel.uaccess.get_user(task, timeout, 16))
    return _futex(kernel, task, Words(address, what, value, timeout, second, third), wanted)


class Words(NamedTuple):
    """The call's arguments as they came: ``timeout`` is a count where nothing waits, ``second`` the other address."""

    address: int
    what: int
    value: int
    timeout: int
    second: int
    third: int

    @property
    def private(self) -> bool:
        """Only threads of one address space use the word."""
        return bool(self.what & FUTEX_PRIVATE_FLAG)


def _futex(kernel: Kernel, task: Task, words: Words, wanted: int | None) -> int:
    """``wanted`` is in nanoseconds: for FUTEX_WAIT a span, for all others a moment of a clock."""
    operation = words.what & COMMAND
    if operation not in OPERATIONS:
        raise KernelError(ENOSYS)
    if words.what & FUTEX_CLOCK_REALTIME and operation not in WITH_CLOCK:
        raise KernelError(ENOSYS)
    until = None if wanted is None else _until(kernel, words, operation, wanted)
    if operation in INHERITING:
        return _inheriting(kernel, task, words, operation, until)
    if operation in (FUTEX_REQUEUE, FUTEX_CMP_REQUEUE):
        return _requeue(kernel, task, words, operation == FUTEX_CMP_REQUEUE)
    bits = words.third if operation in WITH_BITS else ANY
    if not bits:
        raise KernelError(EINVAL)
    key = _key(kernel, task, words.address, words.private)
    if operation == FUTEX_WAKE_OP:
        return _wake_op(kernel, task, words, key)
    if operation not in WAITS:
        return kernel.futexes.wake(key, signed(words.value), bits)
    return kernel.futexes.wait(task, key, words.address, words.value, bits, until)


def _until(kernel: Kernel, words: Words, operation: int, wanted: int) -> int:
    """The machine's time in blocks."""
    if operation != FUTEX_WAIT:
        real = words.what & FUTEX_CLOCK_REALTIME or operation == FUTEX_LOCK_PI
        wanted -= clock_nanoseconds(kernel, CLOCK_REALTIME if real else CLOCK_MONOTONIC)
    return kernel.clock.now + wanted // BLOCK_NANOSECONDS


def _inheriting(kernel: Kernel, task: Task, words: Words, operation: int, until: int | None) -> int:
    """Raises KernelError: EINVAL, EFAULT, and what ``task.futex_pi`` raises."""
    futexes = kernel.pi_futexes
    if operation in (FUTEX_WAIT_REQUEUE_PI, FUTEX_CMP_REQUEUE_PI):
        return _requeue_pi(kernel, task, words, operation, until)
    if operation == FUTEX_UNLOCK_PI:
        if words.address % WORD:
            return _unaligned(kernel, task, words.address)
        return futexes.unlock(task, words.address, words.private)
    key = _key(kernel, task, words.address, words.private)
    return futexes.lock(task, key, words.address, until, operation in LOCKS)


def _unaligned(kernel: Kernel, task: Task, address: int) -> int:
    """Who owns it is asked before where it lies.  Raises KernelError: EFAULT, EPERM, EINVAL."""
    owner = kernel.uaccess.get_word(task, address) & FUTEX_TID_MASK
    raise KernelError(EINVAL if owner == task.pid else EPERM)


def _requeue_pi(kernel: Kernel, task: Task, words: Words, operation: int, until: int | None) -> int:
    """Raises KernelError: EINVAL also where both words are one, or not one waiter is to be woken."""
    if words.address == words.second:
        raise KernelError(EINVAL)
    if operation == FUTEX_CMP_REQUEUE_PI and (words.value != 1 or signed(words.timeout) < 0):
        raise KernelError(EINVAL)
    key = _key(kernel, task, words.address, words.private)
    target = _key(kernel, task, words.second, words.private)
    if key == target:
        raise KernelError(EINVAL)
    futexes, first, second = kernel.pi_futexes, words.address, words.second
    if operation == FUTEX_WAIT_REQUEUE_PI:
        return futexes.wait_requeue(task, key, first, words.value, target, second, until)
    return futexes.requeue(task, key, first, words.third, target, second, signed(words.timeout))


def _key(kernel: Kernel, task: Task, address: int, private: bool) -> Key:
    """Raises KernelError: EINVAL, EFAULT."""
    if address % WORD:
        raise KernelError(EINVAL)
    if not kernel.uaccess.access_ok(address, WORD):
        raise KernelError(EFAULT)
    return kernel.futexes.key(task, address, private)


def _requeue(kernel: Kernel, task: Task, words: Words, compare: bool) -> int:
    """Raises KernelError: EAGAIN when the word is not ``third``, EINVAL, EFAULT."""
    wakes, moves = signed(words.value), signed(words.timeout)
    if wakes < 0 or moves < 0:
        raise KernelError(EINVAL)
    source = _key(kernel, task, words.address, words.private)
    target = _key(kernel, task, words.second, words.private)
    if compare and kernel.uaccess.get_word(task, words.address) != words.third:
        raise KernelError(EAGAIN)
    return kernel.futexes.requeue(source, target, wakes, moves)


def _wake_op(kernel: Kernel, task: Task, words: Words, key: Key) -> int:
    """Change the second word, wake who waits for the first, and for the second if it compared as ``third`` says."""
    target = _key(kernel, task, words.second, words.private)
    code = words.third
    operation, comparison = code >> 28 & 7, code >> 24 & 15
    argument, compared = _twelve_bits(code >> 12), _twelve_bits(code)
    if code >> 31:  # FUTEX_OP_OPARG_SHIFT
        argument = 1 << (argument & 31)
    if operation not in OPS:
        raise KernelError(ENOSYS)
    before = signed(kernel.futexes.change(task, words.second, lambda old: OPS[operation](old, argument)))
    if comparison not in COMPARISONS:
        raise KernelError(ENOSYS)
    woken = kernel.futexes.wake(key, signed(words.value))
    if COMPARISONS[comparison](before, compared):
        woken += kernel.futexes.wake(target, signed(words.timeout))
    return woken


def _twelve_bits(value: int) -> int:
    """A signed number in the lowest 12 bits."""
    return (value & 0xFFF ^ 0x800) - 0x800


def sys_set_robust_list(kernel: Kernel, task: Task, head: int, size: int, *_: int) -> int:
    if size != HEAD_BYTES:
        raise KernelError(EINVAL)
    task.robust_list = head
    return 0


def sys_get_robust_list(kernel: Kernel, task: Task, pid: int, head: int, size: int, *_: int) -> int:
    """Of another task it takes what ptrace(2) would."""
    found = find_task(kernel, task, pid)
    if not may_access(task, found):
        raise KernelError(EPERM)
    kernel.uaccess.put_user(task, size, HEAD_BYTES.to_bytes(4, "little"))
    kernel.uaccess.put_user(task, head, found.robust_list.to_bytes(4, "little"))
    return 0
