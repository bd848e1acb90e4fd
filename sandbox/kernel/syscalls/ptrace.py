"""ptrace(2), with the numbers, orders of checks and errors of Linux (kernel/ptrace.c, arch/x86/kernel/ptrace.c)."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.abi import ptrace as abi
from sandbox.kernel.abi.errno import EFAULT, EINVAL, EIO, ESRCH, KernelError
from sandbox.kernel.abi.siginfo import SIGINFO_BYTES, SigInfo
from sandbox.kernel.abi.signals import NSIG, SIGKILL, UNBLOCKABLE
from sandbox.kernel.abi.structs import unpack_iovec
from sandbox.kernel.abi.userdesc import UserDesc
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.process import ptregs
from sandbox.kernel.process.exit import detach
from sandbox.kernel.process.fork import set_tls
from sandbox.kernel.process.ptrace import attach, check_seize, let_go_on, traced_task, traceme
from sandbox.kernel.task.sigpending import recalculate
from sandbox.kernel.task.task import GDT_ENTRY_TLS_ENTRIES, GDT_ENTRY_TLS_MIN, Task

WORD, SIGSET_BYTES, IOVEC_BYTES = 4, 8, 8
Request = Callable[[Kernel, Task, Task, int, int], int]
"""Of a tracer to a stopped task, with ``addr`` and ``data`` as they came."""


def sys_ptrace(kernel: Kernel, task: Task, request: int, pid: int, address: int, data: int, *_: int) -> int:
    if request == abi.PTRACE_TRACEME:
        traceme(task)
        return 0
    if request in (abi.PTRACE_ATTACH, abi.PTRACE_SEIZE):
        return _attach(kernel, task, request, pid, address, data)
    anyhow = request in (abi.PTRACE_KILL, abi.PTRACE_INTERRUPT)
    child = traced_task(kernel, task, pid, stopped=not anyhow)
    handler = _REQUESTS.get(request)
    if handler is None:
        raise KernelError(EIO)
    return handler(kernel, task, child, address, data)


def _attach(kernel: Kernel, task: Task, request: int, pid: int, address: int, data: int) -> int:
    child, seized = kernel.tasks.get(pid), request == abi.PTRACE_SEIZE
    if child is None:
        raise KernelError(ESRCH)
    if seized:
        check_seize(address, data, abi.PTRACE_O_MASK & ~abi.PTRACE_O_SUSPEND_SECCOMP)
    attach(kernel, task, child, seized=seized, options=data if seized else 0)
    return 0


# -- memory ----------------------------------------------------------------------------------------------------------


def _to_tracer(kernel: Kernel, task: Task, address: int, data: bytes) -> int:
    kernel.uaccess.put_user(task, address, data)
    return 0


def _peek_data(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    """A word, by way of the tracer's scratch page: out of the kmapped page, and into its memory."""
    scratch = task.scratch
    if child.mm is None or kernel.remote.access_remote_vm(task, child.mm, address, scratch, WORD, write=False) < WORD:
        raise KernelError(EIO)
    if not kernel.uaccess.access_ok(data, WORD) or kernel.uaccess.copy_user(task, data, scratch, WORD):
        raise KernelError(EFAULT)
    return 0


def _poke_data(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    task.cpu.store(task.scratch, data.to_bytes(WORD, "little"))
    if child.mm is None or kernel.remote.access_remote_vm(task, child.mm, address, task.scratch, WORD, write=True) < 4:
        raise KernelError(EIO)
    return 0


# -- registers -------------------------------------------------------------------------------------------------------


def _peek_user(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    return _to_tracer(kernel, task, data, ptregs.peek_user(child, address).to_bytes(WORD, "little"))


def _poke_user(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    ptregs.poke_user(kernel, child, address, data)
    return 0


def _get_regs(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    return _to_tracer(kernel, task, data, ptregs.get_regs(child))


def _set_regs(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    ptregs.set_regs(kernel, child, kernel.uaccess.get_user(task, data, abi.REGS_BYTES))
    return 0


def _get_fpregs(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    return _to_tracer(kernel, task, data, ptregs.get_fpregs(child))


def _set_fpregs(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    ptregs.set_fpregs(child, kernel.uaccess.get_user(task, data, abi.FPREGS_BYTES))
    return 0


def _get_fpxregs(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    return _to_tracer(kernel, task, data, ptregs.get_fpxregs(child))


def _set_fpxregs(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    ptregs.set_fpxregs(child, kernel.uaccess.get_user(task, data, abi.FPXREGS_BYTES))
    return 0


def _get_regset(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    """As much as the iovec at ``data`` has room for; its length becomes what was stored."""
    base, length = _iovec(kernel, task, data)
    found = ptregs.get_regset(child, address)
    _check_words(length)
    _to_tracer(kernel, task, base, found[:length])
    return _to_tracer(kernel, task, data + WORD, min(length, len(found)).to_bytes(WORD, "little"))


def _set_regset(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    base, length = _iovec(kernel, task, data)
    used = min(length, len(ptregs.get_regset(child, address)))
    _check_words(length)
    ptregs.set_regset(kernel, child, address, kernel.uaccess.get_user(task, base, used))
    return _to_tracer(kernel, task, data + WORD, used.to_bytes(WORD, "little"))


def _iovec(kernel: Kernel, task: Task, address: int) -> tuple[int, int]:
    return unpack_iovec(kernel.uaccess.get_user(task, address, IOVEC_BYTES))[0]


def _check_words(length: int) -> None:
    if length % WORD:
        raise KernelError(EINVAL)


def _get_thread_area(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    slot = _slot(address)
    return _to_tracer(kernel, task, data, UserDesc.of_descriptor(address, child.tls[slot]).pack())


def _set_thread_area(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    desc = UserDesc.unpack(kernel.uaccess.get_user(task, data, UserDesc.SIZE))
    desc.entry_number = address
    _slot(address)
    if not desc.fits_tls:
        raise KernelError(EINVAL)
    set_tls(child, desc)
    kernel.desc.refresh(child, address)
    return 0


def _slot(number: int) -> int:
    """Raises KernelError(EIO, EINVAL)."""
    if number >> 31:
        raise KernelError(EIO)
    if not 0 <= number - GDT_ENTRY_TLS_MIN < GDT_ENTRY_TLS_ENTRIES:
        raise KernelError(EINVAL)
    return number - GDT_ENTRY_TLS_MIN


# -- going on --------------------------------------------------------------------------------------------------------


def _resume(
    kernel: Kernel, child: Task, signal: int, *, calls: bool = False, emu: bool = False, step: bool = False
) -> int:
    _check_signal(signal)
    assert child.ptrace is not None
    child.ptrace.calls, child.ptrace.emulated = calls, emu
    let_go_on(kernel, child, signal, step=step)
    return 0


def _check_signal(signal: int) -> None:
    if signal > NSIG:
        raise KernelError(EIO)


def _cont(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    return _resume(kernel, child, data)


def _syscall(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    return _resume(kernel, child, data, calls=True)


def _sysemu(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    return _resume(kernel, child, data, emu=True)


def _singlestep(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    return _resume(kernel, child, data, step=True)


def _kill(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    kernel.signals.send_signal(child, SIGKILL)
    return 0


def _detach(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    _check_signal(data)
    assert child.ptrace is not None
    child.ptrace.signal = data
    detach(kernel, child)
    return 0


def _interrupt(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    assert child.ptrace is not None
    if not child.ptrace.seized:
        raise KernelError(EIO)
    kernel.tracing.interrupt(child)
    return 0


def _listen(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    tracee = child.ptrace
    assert tracee is not None
    if not tracee.seized or tracee.info is None or tracee.info.code >> 8 != abi.PTRACE_EVENT_STOP:
        raise KernelError(EIO)
    tracee.listening = True
    if tracee.trap:
        kernel.tracing.interrupt(child)
    return 0


# -- what it is told -------------------------------------------------------------------------------------------------


def _set_options(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    if data & ~abi.PTRACE_O_MASK or data & abi.PTRACE_O_SUSPEND_SECCOMP:
        raise KernelError(EINVAL)
    assert child.ptrace is not None
    child.ptrace.options = data
    return 0


def _get_event_message(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    assert child.ptrace is not None
    return _to_tracer(kernel, task, data, (child.ptrace.message & 0xFFFFFFFF).to_bytes(WORD, "little"))


def _get_siginfo(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    assert child.ptrace is not None
    if child.ptrace.info is None:
        raise KernelError(EINVAL)
    return _to_tracer(kernel, task, data, child.ptrace.info.pack())


def _set_siginfo(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    info = SigInfo.unpack(kernel.uaccess.get_user(task, data, SIGINFO_BYTES))
    assert child.ptrace is not None
    if child.ptrace.info is None:
        raise KernelError(EINVAL)
    child.ptrace.info = info
    return 0


def _get_sigmask(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    if address != SIGSET_BYTES:
        raise KernelError(EINVAL)
    return _to_tracer(kernel, task, data, child.signals.blocked.to_bytes(SIGSET_BYTES, "little"))


def _set_sigmask(kernel: Kernel, task: Task, child: Task, address: int, data: int) -> int:
    if address != SIGSET_BYTES:
        raise KernelError(EINVAL)
    mask = int.from_bytes(kernel.uaccess.get_user(task, data, SIGSET_BYTES), "little")
    child.signals.blocked = mask & ~UNBLOCKABLE
    recalculate(child)
    return 0


_REQUESTS: dict[int, Request] = {
    abi.PTRACE_PEEKTEXT: _peek_data, abi.PTRACE_PEEKDATA: _peek_data, abi.PTRACE_PEEKUSR: _peek_user,
    abi.PTRACE_POKETEXT: _poke_data, abi.PTRACE_POKEDATA: _poke_data, abi.PTRACE_POKEUSR: _poke_user,
    abi.PTRACE_CONT: _cont, abi.PTRACE_KILL: _kill, abi.PTRACE_SINGLESTEP: _singlestep,
    abi.PTRACE_GETREGS: _get_regs, abi.PTRACE_SETREGS: _set_regs,
    abi.PTRACE_GETFPREGS: _get_fpregs, abi.PTRACE_SETFPREGS: _set_fpregs,
    abi.PTRACE_GETFPXREGS: _get_fpxregs, abi.PTRACE_SETFPXREGS: _set_fpxregs,
    abi.PTRACE_GETREGSET: _get_regset, abi.PTRACE_SETREGSET: _set_regset,
    abi.PTRACE_GET_THREAD_AREA: _get_thread_area, abi.PTRACE_SET_THREAD_AREA: _set_thread_area,
    abi.PTRACE_DETACH: _detach, abi.PTRACE_SYSCALL: _syscall, abi.PTRACE_SYSEMU: _sysemu,
    abi.PTRACE_OLDSETOPTIONS: _set_options, abi.PTRACE_SETOPTIONS: _set_options,
    abi.PTRACE_GETEVENTMSG: _get_event_message, abi.PTRACE_GETSIGINFO: _get_siginfo,
    abi.PTRACE_SETSIGINFO: _set_siginfo, abi.PTRACE_INTERRUPT: _interrupt, abi.PTRACE_LISTEN: _listen,
    abi.PTRACE_GETSIGMASK: _get_sigmask, abi.PTRACE_SETSIGMASK: _set_sigmask,
}  # fmt: skip
