"""Users and groups: who a task is (credentials(7)).

Each call comes in two widths, as in Linux (kernel/uid16.c): the old one takes and shows 16 bits, where FFFF is -1 and
an id that does not fit is shown as 65534.
"""

from __future__ import annotations

import struct

from sandbox.kernel.abi.errno import EINVAL, EPERM, KernelError
from sandbox.kernel.abi.structs import OVERFLOW_ID
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.task.cred import NO_ID, Ids
from sandbox.kernel.task.task import Task
from sandbox.records import replace

NGROUPS_MAX = 65536
SHORT = 0xFFFF


def _wide(number: int) -> int:
    """low2highuid: an argument of an old call."""
    return NO_ID if number & SHORT == SHORT else number & SHORT


def _short(number: int) -> int:
    """high2lowuid: a result of an old call."""
    return number if number <= SHORT else OVERFLOW_ID


def _set_uid(task: Task, ids: Ids) -> int:
    task.cred = replace(task.cred, uid=ids)
    return 0


def _set_gid(task: Task, ids: Ids) -> int:
    task.cred = replace(task.cred, gid=ids)
    return 0


# -- who it is -------------------------------------------------------------------------------------------------------


def sys_getuid32(kernel: Kernel, task: Task, *_: int) -> int:
    return task.cred.uid.real


def sys_geteuid32(kernel: Kernel, task: Task, *_: int) -> int:
    return task.cred.uid.effective


def sys_getgid32(kernel: Kernel, task: Task, *_: int) -> int:
    return task.cred.gid.real


def sys_getegid32(kernel: Kernel, task: Task, *_: int) -> int:
    return task.cred.gid.effective


def sys_getuid(kernel: Kernel, task: Task, *_: int) -> int:
    return _short(task.cred.uid.real)


def sys_geteuid(kernel: Kernel, task: Task, *_: int) -> int:
    return _short(task.cred.uid.effective)


def sys_getgid(kernel: Kernel, task: Task, *_: int) -> int:
    return _short(task.cred.gid.real)


def sys_getegid(kernel: Kernel, task: Task, *_: int) -> int:
    return _short(task.cred.gid.effective)


def _store(kernel: Kernel, task: Task, ids: Ids, pointers: tuple[int, int, int], size: int) -> int:
    """Real, effective and saved id, each to a place of its own."""
    for pointer, number in zip(pointers, (ids.real, ids.effective, ids.saved), strict=True):
        shown = number if size > 2 else _short(number)
        kernel.uaccess.put_user(task, pointer, shown.to_bytes(size, "little"))
    return 0


def sys_getresuid32(kernel: Kernel, task: Task, real: int, effective: int, saved: int, *_: int) -> int:
    return _store(kernel, task, task.cred.uid, (real, effective, saved), 4)


def sys_getresgid32(kernel: Kernel, task: Task, real: int, effective: int, saved: int, *_: int) -> int:
    return _store(kernel, task, task.cred.gid, (real, effective, saved), 4)


def sys_getresuid(kernel: Kernel, task: Task, real: int, effective: int, saved: int, *_: int) -> int:
    return _store(kernel, task, task.cred.uid, (real, effective, saved), 2)


def sys_getresgid(kernel: Kernel, task: Task, real: int, effective: int, saved: int, *_: int) -> int:
    return _store(kernel, task, task.cred.gid, (real, effective, saved), 2)


# -- who it becomes --------------------------------------------------------------------------------------------------


def sys_setuid32(kernel: Kernel, task: Task, uid: int, *_: int) -> int:
    return _set_uid(task, task.cred.uid.set(uid, task.cred.capable))


def sys_setgid32(kernel: Kernel, task: Task, gid: int, *_: int) -> int:
    return _set_gid(task, task.cred.gid.set(gid, task.cred.capable))


def sys_setreuid32(kernel: Kernel, task: Task, real: int, effective: int, *_: int) -> int:
    return _set_uid(task, task.cred.uid.set_re(real, effective, task.cred.capable))


def sys_setregid32(kernel: Kernel, task: Task, real: int, effective: int, *_: int) -> int:
    return _set_gid(task, task.cred.gid.set_re(real, effective, task.cred.capable))


def sys_setresuid32(kernel: Kernel, task: Task, real: int, effective: int, saved: int, *_: int) -> int:
    return _set_uid(task, task.cred.uid.set_res(real, effective, saved, task.cred.capable))


def sys_setresgid32(kernel: Kernel, task: Task, real: int, effective: int, saved: int, *_: int) -> int:
    return _set_gid(task, task.cred.gid.set_res(real, effective, saved, task.cred.capable))


def sys_setfsuid32(kernel: Kernel, task: Task, uid: int, *_: int) -> int:
    """The id before, whether it was changed or not."""
    before = task.cred.uid
    _set_uid(task, before.set_fs(uid, task.cred.capable))
    return before.fs


def sys_setfsgid32(kernel: Kernel, task: Task, gid: int, *_: int) -> int:
    """The id before, whether it was changed or not."""
    before = task.cred.gid
    _set_gid(task, before.set_fs(gid, task.cred.capable))
    return before.fs


def sys_setuid(kernel: Kernel, task: Task, uid: int, *_: int) -> int:
    return sys_setuid32(kernel, task, _wide(uid))


def sys_setgid(kernel: Kernel, task: Task, gid: int, *_: int) -> int:
    return sys_setgid32(kernel, task, _wide(gid))


def sys_setreuid(kernel: Kernel, task: Task, real: int, effective: int, *_: int) -> int:
    return sys_setreuid32(kernel, task, _wide(real), _wide(effective))


def sys_setregid(kernel: Kernel, task: Task, real: int, effective: int, *_: int) -> int:
    return sys_setregid32(kernel, task, _wide(real), _wide(effective))


def sys_setresuid(kernel: Kernel, task: Task, real: int, effective: int, saved: int, *_: int) -> int:
    return sys_setresuid32(kernel, task, _wide(real), _wide(effective), _wide(saved))


def sys_setresgid(kernel: Kernel, task: Task, real: int, effective: int, saved: int, *_: int) -> int:
    return sys_setresgid32(kernel, task, _wide(real), _wide(effective), _wide(saved))


def sys_setfsuid(kernel: Kernel, task: Task, uid: int, *_: int) -> int:
    return sys_setfsuid32(kernel, task, _wide(uid))


def sys_setfsgid(kernel: Kernel, task: Task, gid: int, *_: int) -> int:
    return sys_setfsgid32(kernel, task, _wide(gid))


# -- other groups ----------------------------------------------------------------------------------------------------


def _get_groups(kernel: Kernel, task: Task, size: int, pointer: int, letter: str) -> int:
    groups = task.cred.groups
    if size >> 31 or (size and len(groups) > size):
        raise KernelError(EINVAL)
    if size:
        shown = groups if letter == "I" else tuple(map(_short, groups))
        kernel.uaccess.put_user(task, pointer, struct.pack(f"<{len(groups)}{letter}", *shown))
    return len(groups)


def sys_getgroups32(kernel: Kernel, task: Task, size: int, pointer: int, *_: int) -> int:
    return _get_groups(kernel, task, size, pointer, "I")


def sys_getgroups(kernel: Kernel, task: Task, size: int, pointer: int, *_: int) -> int:
    return _get_groups(kernel, task, size, pointer, "H")


def _set_groups(kernel: Kernel, task: Task, count: int, pointer: int, letter: str) -> int:
    if not task.cred.capable:
        raise KernelError(EPERM)
    if count > NGROUPS_MAX:
        raise KernelError(EINVAL)
    data = kernel.uaccess.get_user(task, pointer, count * struct.calcsize(letter))
    groups = struct.unpack(f"<{count}{letter}", data)
    if letter == "H":
        groups = tuple(map(_wide, groups))
    if NO_ID in groups:
        raise KernelError(EINVAL)
    task.cred = replace(task.cred, groups=tuple(sorted(groups)))
    return 0


def sys_setgroups32(kernel: Kernel, task: Task, count: int, pointer: int, *_: int) -> int:
    return _set_groups(kernel, task, count, pointer, "I")


def sys_setgroups(kernel: Kernel, task: Task, count: int, pointer: int, *_: int) -> int:
    return _set_groups(kernel, task, count, pointer, "H")
