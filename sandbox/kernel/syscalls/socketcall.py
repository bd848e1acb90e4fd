"""socketcall(102): all calls of sockets through one number, with their arguments in memory."""

from __future__ import annotations

import struct
from collections.abc import Callable

from sandbox.kernel.abi.errno import EINVAL, KernelError
from sandbox.kernel.abi.socket import SOCKETCALLS
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls import socket as calls
from sandbox.kernel.syscalls import sockmsg, sockopt
from sandbox.kernel.task.task import Task


def _handler(name: str) -> Callable[..., int]:
    name = {"send": "sendto", "recv": "recvfrom", "accept": "accept4"}.get(name, name)
    found: Callable[..., int] = next(
        getattr(module, f"sys_{name}") for module in (calls, sockopt, sockmsg) if hasattr(module, f"sys_{name}")
    )
    return found


def sys_socketcall(kernel: Kernel, task: Task, call: int, block: int, *_: int) -> int:
    if not 0 < call < len(SOCKETCALLS):
        raise KernelError(EINVAL)
    name, count = SOCKETCALLS[call]
    arguments = struct.unpack(f"<{count}I", kernel.uaccess.get_user(task, block, 4 * count))
    return _handler(name)(kernel, task, *arguments, *(0,) * (6 - count))
