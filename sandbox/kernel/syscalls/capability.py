"""capget and capset: what a root without a security module may do.

The sets are kept and shown; what a task may do depends on its user ids alone (``task.cred``).
"""

from __future__ import annotations

import struct

from sandbox.kernel.abi.errno import EINVAL, EPERM, KernelError
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.process import find_task
from sandbox.kernel.task.task import ALL_CAPABILITIES, Capabilities, Task

VERSION_WORDS = {0x19980330: 1, 0x20071026: 2, 0x20080522: 2}
"""32-bit words of each set in a version of the structure."""
PREFERRED = 0x20080522


def _header(kernel: Kernel, task: Task, pointer: int, probe: bool) -> tuple[int, int]:
    """Words of a set, and the pid.  An unknown version is answered with the one that is known.

    Raises KernelError(EINVAL), or with errno 0 when the program only wanted to learn the version.
    """
    version, pid = struct.unpack("<Ii", kernel.uaccess.get_user(task, pointer, 8))
    words = VERSION_WORDS.get(version)
    if words is None:
        kernel.uaccess.put_user(task, pointer, struct.pack("<I", PREFERRED))
        raise KernelError(0 if probe else EINVAL)
    return words, pid


def _held(task: Task) -> Capabilities:
    """Nothing is effective without effective uid 0, nor permitted without uid 0 at all (capabilities(7))."""
    uid, held = task.cred.uid, task.capabilities
    if uid.effective:
        held = held._replace(effective=0)
    return held if uid.has(0) else held._replace(permitted=0)


def sys_capget(kernel: Kernel, task: Task, header: int, data: int, *_: int) -> int:
    words, pid = _header(kernel, task, header, not data)
    if pid < 0:
        raise KernelError(EINVAL)
    found = find_task(kernel, task, pid)
    if data:
        sets = [[each >> 32 * word & 0xFFFFFFFF for each in _held(found)] for word in range(words)]
        kernel.uaccess.put_user(task, data, b"".join(struct.pack("<3I", *each) for each in sets))
    return 0


def sys_capset(kernel: Kernel, task: Task, header: int, data: int, *_: int) -> int:
    words, pid = _header(kernel, task, header, False)
    if pid not in (0, task.pid):
        raise KernelError(EPERM)
    raw = struct.unpack(f"<{3 * words}I", kernel.uaccess.get_user(task, data, 12 * words))
    words_of = (raw[which::3] for which in range(3))
    effective, permitted, inheritable = (
        sum(word << 32 * at for at, word in enumerate(each)) & ALL_CAPABILITIES.permitted for each in words_of
    )
    if permitted & ~_held(task).permitted or effective & ~permitted:
        raise KernelError(EPERM)
    task.capabilities = task.capabilities._replace(effective=effective, permitted=permitted, inheritable=inheritable)
    return 0
