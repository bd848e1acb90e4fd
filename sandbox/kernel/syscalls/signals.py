"""System calls about signals: dispositions, masks, waiting, the alternate stack, sending, the way back."""

from __future__ import annotations

from collections.abc import Iterable
from struct import pack, unpack

from sandbox.kernel.abi.errno import (
    EAGAIN,
    EINTR,
    EINVAL,
    ENOMEM,
    EPERM,
    ERESTARTNOHAND,
    ESRCH,
    KernelError,
)
from sandbox.kernel.abi.siginfo import SIGINFO_BYTES, SigInfo
from sandbox.kernel.abi.signals import (
    MINSIGSTKSZ,
    NSIG,
    SA_NODEFER,
    SA_RESETHAND,
    SI_KERNEL,
    SI_TKILL,
    SI_USER,
    SIG_BLOCK,
    SIG_SETMASK,
    SIG_UNBLOCK,
    SIGBUS,
    SIGCONT,
    SIGSEGV,
    SS_DISABLE,
    SS_ONSTACK,
    UNBLOCKABLE,
)
from sandbox.kernel.abi.structs import SigAction, unpack_timespec, unpack_timespec64
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.task.sigframe import (
    SS_AUTODISARM,
    BadFrame,
    BadSelector,
    normalized,
    stack_is_valid,
)
from sandbox.kernel.task.sigpending import discard, is_ignored, recalculate
from sandbox.kernel.task.sigqueue import AltStack, bit_of
from sandbox.kernel.task.task import State, Task
from sandbox.records import replace
from sandbox.x86.vectors import Vector

SIGSET_BYTES = 8
LOW = 0xFFFFFFFF
OLD_SIGACTION_BYTES, SIGACTION_BYTES, STACK_BYTES = 16, 20, 12


# -- dispositions ------------------------------------------------------------------------------------------------


def _set_action(task: Task, number: int, wanted: SigAction | None) -> SigAction:
    """The old disposition.  Raises KernelError(EINVAL)."""
    if not 0 < number <= NSIG or (wanted is not None and bit_of(number) & UNBLOCKABLE):
        raise KernelError(EINVAL)
    state = task.signals
    before = state.hand.actions[number]
    if wanted is not None:
        state.hand.actions[number] = replace(wanted, mask=wanted.mask & ~UNBLOCKABLE)
        blocked, state.blocked = state.blocked, 0
        if is_ignored(task, number):
            discard(task.group, bit_of(number))
        state.blocked = blocked
        recalculate(task)
    return before


def sys_sigaction(kernel: Kernel, task: Task, number: int, new: int, old: int, *_: int) -> int:
    wanted = SigAction.unpack_old(kernel.uaccess.get_user(task, new, OLD_SIGACTION_BYTES)) if new else None
    before = _set_action(task, number, wanted)
    if old:
        kernel.uaccess.put_user(task, old, before.pack_old())
    return 0


def sys_rt_sigaction(kernel: Kernel, task: Task, number: int, new: int, old: int, size: int, *_: int) -> int:
    if size != SIGSET_BYTES:
        raise KernelError(EINVAL)
    wanted = SigAction.unpack(kernel.uaccess.get_user(task, new, SIGACTION_BYTES)) if new else None
    before = _set_action(task, number, wanted)
    if old:
        kernel.uaccess.put_user(task, old, before.pack())
    return 0


def sys_signal(kernel: Kernel, task: Task, number: int, handler: int, *_: int) -> int:
    return _set_action(task, number, SigAction(handler, SA_RESETHAND | SA_NODEFER)).handler


# -- masks -------------------------------------------------------------------------------------------------------


def _change_mask(kernel: Kernel, task: Task, how: int, bits: int, kept: int) -> None:
    """``kept`` are the bits that SIG_SETMASK leaves alone.  Raises KernelError(EINVAL)."""
    blocked = task.signals.blocked
    if how == SIG_BLOCK:
        blocked |= bits
    elif how == SIG_UNBLOCK:
        blocked &= ~bits
    elif how == SIG_SETMASK:
        blocked = blocked & kept | bits
    else:
        raise KernelError(EINVAL)
    kernel.signals.set_blocked(task, blocked)


def sys_rt_sigprocmask(kernel: Kernel, task: Task, how: int, new: int, old: int, size: int, *_: int) -> int:
    if size != SIGSET_BYTES:
        raise KernelError(EINVAL)
    before = task.signals.blocked
    if new:
        _change_mask(kernel, task, how, int.from_bytes(kernel.uaccess.get_user(task, new, SIGSET_BYTES), "little"), 0)
    if old:
        kernel.uaccess.put_user(task, old, before.to_bytes(SIGSET_BYTES, "little"))
    return 0


def sys_sigprocmask(kernel: Kernel, task: Task, how: int, new: int, old: int, *_: int) -> int:
    """The old form, which knows the first 32 signals."""
    before = task.signals.blocked
    if new:
        _change_mask(kernel, task, how, kernel.uaccess.get_word(task, new), ~LOW)
    if old:
        kernel.uaccess.put_user(task, old, (before & LOW).to_bytes(4, "little"))
    return 0


def sys_sgetmask(kernel: Kernel, task: Task, *_: int) -> int:
    return task.signals.blocked & LOW


def sys_ssetmask(kernel: Kernel, task: Task, mask: int, *_: int) -> int:
    before = task.signals.blocked & LOW
    kernel.signals.set_blocked(task, mask)
    return before


def sys_rt_sigpending(kernel: Kernel, task: Task, pointer: int, size: int, *_: int) -> int:
    if size > SIGSET_BYTES:
        raise KernelError(EINVAL)
    state = task.signals
    kernel.uaccess.put_user(task, pointer, (state.waiting & state.blocked).to_bytes(8, "little")[:size])
    return 0


def sys_sigpending(kernel: Kernel, task: Task, pointer: int, *_: int) -> int:
    return sys_rt_sigpending(kernel, task, pointer, 4)


# -- waiting -----------------------------------------------------------------------------------------------------


def _suspend(kernel: Kernel, task: Task) -> int:
    while not task.pending:
        kernel.sched.sleep(task, "a signal")
    raise KernelError(ERESTARTNOHAND)


def sys_pause(kernel: Kernel, task: Task, *_: int) -> int:
    return _suspend(kernel, task)


def _suspend_with(kernel: Kernel, task: Task, mask: int) -> int:
    task.signals.saved_mask = task.signals.blocked
    kernel.signals.set_blocked(task, mask)
    return _suspend(kernel, task)


def sys_rt_sigsuspend(kernel: Kernel, task: Task, pointer: int, size: int, *_: int) -> int:
    if size != SIGSET_BYTES:
        raise KernelError(EINVAL)
    return _suspend_with(kernel, task, int.from_bytes(kernel.uaccess.get_user(task, pointer, SIGSET_BYTES), "little"))


def sys_sigsuspend(kernel: Kernel, task: Task, _history: int, _size: int, mask: int, *_: int) -> int:
    return _suspend_with(kernel, task, mask)


def _timed_wait(kernel: Kernel, task: Task, mask: int, found: int, nanoseconds: int | None) -> int:
    state = task.signals
    until = -1 if nanoseconds is None else kernel.clock.now + nanoseconds
    mask &= ~UNBLOCKABLE
    while True:
        info = state.dequeue(mask)
        if info is not None:
            recalculate(task)
            if found:
                kernel.uaccess.put_user(task, found, info.pack())
            return info.signo
        if nanoseconds is not None and kernel.clock.now >= until:
            raise KernelError(EAGAIN)
        if task.pending:
            raise KernelError(EINTR)
        state.awaited = mask
        kernel.sched.sleep(task, "a signal", until)
        state.awaited = 0


def _sigtimedwait(kernel: Kernel, task: Task, pointer: int, info: int, timeout: int, size: int, wide: bool) -> int:
    if size != SIGSET_BYTES:
        raise KernelError(EINVAL)
    mask = int.from_bytes(kernel.uaccess.get_user(task, pointer, SIGSET_BYTES), "little")
    nanoseconds = None
    if timeout:
        data = kernel.uaccess.get_user(task, timeout, 16 if wide else 8)
        nanoseconds = unpack_timespec64(data) if wide else unpack_timespec(data)
    return _timed_wait(kernel, task, mask, info, nanoseconds)


def sys_rt_sigtimedwait(kernel: Kernel, task: Task, pointer: int, info: int, timeout: int, size: int, *_: int) -> int:
    return _sigtimedwait(kernel, task, pointer, info, timeout, size, False)


def sys_rt_sigtimedwait_time64(
    kernel: Kernel, task: Task, pointer: int, info: int, timeout: int, size: int, *_: int
) -> int:
    return _sigtimedwait(kernel, task, pointer, info, timeout, size, True)


# -- the alternate stack and the way back --------------------------------------------------------------------------


def sys_sigaltstack(kernel: Kernel, task: Task, new: int, old: int, *_: int) -> int:
    state = task.signals
    stack = state.altstack
    on_it = stack.holds(task.context.esp) and not stack.flags & SS_AUTODISARM
    mode = SS_DISABLE if not stack.size else SS_ONSTACK if on_it else 0
    before = pack("<3I", stack.base, stack.flags & SS_AUTODISARM | mode, stack.size)
    if new:
        base, flags, size = unpack("<3I", kernel.uaccess.get_user(task, new, STACK_BYTES))
        wanted = AltStack(base, size, flags)
        if on_it:
            raise KernelError(EPERM)
        if not stack_is_valid(wanted):
            small = flags & ~SS_AUTODISARM in (0, SS_ONSTACK) and size < MINSIGSTKSZ
            raise KernelError(ENOMEM if small else EINVAL)
        state.altstack = normalized(wanted)
    if old:
        kernel.uaccess.put_user(task, old, before)
    return 0


def _bad_frame(kernel: Kernel, task: Task, error: BadFrame) -> int:
    """SIGSEGV; for a bad selector everything else of the frame is loaded, and IRET's fault is what the handler sees."""
    said, number = f"sigreturn found no frame at esp {task.context.esp:#010x}", SIGSEGV
    if isinstance(error, BadSelector):
        said = f"sigreturn's IRET cannot load the selector {error.selector:#06x}"
        task.signals.trapno, task.signals.err = int(error.vector), error.error_code
        number = SIGBUS if error.vector == Vector.NP else SIGSEGV
    kernel.signals.force_info(task, SigInfo.sent(number, SI_KERNEL, 0), lambda: said)
    return 0


def sys_sigreturn(kernel: Kernel, task: Task, *_: int) -> int:
    try:
        return kernel.signal_delivery.frames.restore_old_frame(task)
    except BadFrame as error:
        return _bad_frame(kernel, task, error)
    finally:
        kernel.signals.set_blocked(task, task.signals.blocked)


def sys_rt_sigreturn(kernel: Kernel, task: Task, *_: int) -> int:
    try:
        return kernel.signal_delivery.frames.restore_rt_frame(task)
    except BadFrame as error:
        return _bad_frame(kernel, task, error)
    finally:
        kernel.signals.set_blocked(task, task.signals.blocked)


def sys_restart_syscall(kernel: Kernel, task: Task, *_: int) -> int:
    restart, task.signals.restart = task.signals.restart, None
    if restart is None:
        raise KernelError(EINTR)
    return restart(task)


# -- sending -----------------------------------------------------------------------------------------------------


def _check(number: int) -> None:
    if number > NSIG:
        raise KernelError(EINVAL)


def _alive(tasks: Iterable[Task]) -> list[Task]:
    return [each for each in tasks if each.state is not State.DEAD]


def sys_kill(kernel: Kernel, task: Task, pid: int, number: int, *_: int) -> int:
    _check(number)
    signed = pid - (1 << 32) if pid >> 31 else pid
    everybody = kernel.tasks.values()
    if signed > 0:
        targets = _alive(each for each in (kernel.tasks.get(signed),) if each is not None)
    elif signed == -1:
        targets = _alive(each for each in everybody if each.is_leader and each.pid > 1 and each.group is not task.group)
    else:
        group = -signed or task.pgid
        targets = _alive(each for each in everybody if each.is_leader and each.pgid == group)
    if not targets:
        raise KernelError(ESRCH)
    allowed = [each for each in targets if may_signal(task, each, number)]
    if not allowed and signed != -1:
        raise KernelError(EPERM)
    for each in allowed:
        _send(kernel, task, each, number, SI_USER)
    return 0


def may_signal(task: Task, target: Task, number: int) -> bool:
    """SIGCONT may go to the whole session."""
    return task.cred.may_signal(target.cred) or (number == SIGCONT and target.sid == task.sid)


def _send(kernel: Kernel, task: Task, target: Task, number: int, code: int) -> bool:
    """tkill(2) and its kin (SI_TKILL) are for one thread."""
    info = SigInfo.sent(number, code, task.tgid, task.cred.uid.real) if number else None
    return kernel.signals.send_signal(target, number, info, thread=code == SI_TKILL)


def _thread(kernel: Kernel, tgid: int, tid: int) -> Task:
    """A thread of a process; 0 for whichever.  Raises KernelError(ESRCH)."""
    target = kernel.tasks.get(tid)
    if target is None or (tgid and tgid != target.tgid):
        raise KernelError(ESRCH)
    return target


def _tkill(kernel: Kernel, task: Task, tgid: int, tid: int, number: int) -> int:
    _check(number)
    target = _thread(kernel, tgid, tid)
    if not may_signal(task, target, number):
        raise KernelError(EPERM)
    if not _send(kernel, task, target, number, SI_TKILL):
        raise KernelError(EAGAIN)
    return 0


def sys_tgkill(kernel: Kernel, task: Task, tgid: int, tid: int, number: int, *_: int) -> int:
    if not 0 < tgid < 1 << 31 or not 0 < tid < 1 << 31:
        raise KernelError(EINVAL)
    return _tkill(kernel, task, tgid, tid, number)


def sys_tkill(kernel: Kernel, task: Task, tid: int, number: int, *_: int) -> int:
    if not 0 < tid < 1 << 31:
        raise KernelError(EINVAL)
    return _tkill(kernel, task, 0, tid, number)


def _queue_info(kernel: Kernel, task: Task, tgid: int, tid: int, number: int, pointer: int, thread: bool) -> int:
    data = kernel.uaccess.get_user(task, pointer, SIGINFO_BYTES)
    _check(number)
    info = replace(SigInfo.unpack(data), signo=number)
    target = _thread(kernel, tgid, tid)
    forged = (info.code >= 0 or info.code == SI_TKILL) and target is not task
    if forged or not may_signal(task, target, number):
        raise KernelError(EPERM)
    if number and not kernel.signals.send_signal(target, number, info, thread=thread):
        raise KernelError(EAGAIN)
    return 0


def sys_rt_sigqueueinfo(kernel: Kernel, task: Task, pid: int, number: int, pointer: int, *_: int) -> int:
    return _queue_info(kernel, task, 0, pid, number, pointer, False)


def sys_rt_tgsigqueueinfo(kernel: Kernel, task: Task, tgid: int, tid: int, number: int, pointer: int, *_: int) -> int:
    if not 0 < tgid < 1 << 31 or not 0 < tid < 1 << 31:
        raise KernelError(EINVAL)
    return _queue_info(kernel, task, tgid, tid, number, pointer, True)
