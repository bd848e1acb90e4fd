"""Signal frames on a program's stack: laid out as Linux i386 does, and taken back by sigreturn.

From low addresses to high; the FPU's state is aligned so that FXSAVE's image lies at a multiple of 64::

    old form   return address, number, sigcontext, 624 unused bytes, second mask word, trampoline | FPU
    rt form    return address, number, &siginfo, &ucontext, siginfo, ucontext, trampoline         | FPU

The trampolines on the stack are for debuggers, which know a frame by them; handlers return through the vDSO's.
"""

from __future__ import annotations

from dataclasses import replace
from struct import pack, unpack_from
from typing import TYPE_CHECKING

from sandbox.engine.context import EAX, ECX, EDX, EIP, ESP, SEGMENT_SLOTS
from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.abi.sigcontext import (
    FSAVE_BYTES,
    FXSAVE_BYTES,
    SIGCONTEXT_BYTES,
    SigContext,
    fsave_image,
    merge_fsave,
)
from sandbox.kernel.abi.siginfo import SIGINFO_BYTES, SigInfo
from sandbox.kernel.abi.signals import (
    MINSIGSTKSZ,
    SA_ONSTACK,
    SA_RESTORER,
    SA_SIGINFO,
    SS_DISABLE,
    SS_ONSTACK,
    UNBLOCKABLE,
)
from sandbox.kernel.abi.structs import SigAction
from sandbox.kernel.mm.uaccess import copy_to_user, get_user
from sandbox.kernel.task.desc import USER_CS, USER_DS, load_code, load_data, load_stack
from sandbox.kernel.task.sigqueue import AltStack
from sandbox.kernel.task.vdso import RT_SIGRETURN, RT_SIGRETURN_AT, SIGRETURN, SIGRETURN_AT, map_vdso

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task.task import Task

CF, PF, AF, ZF, SF, TF, DF, OF, RF, AC = 1, 4, 0x10, 0x40, 0x80, 0x100, 0x400, 0x800, 0x10000, 0x40000
RESTORED_FLAGS = CF | PF | AF | ZF | SF | TF | DF | OF | RF | AC
"""What sigreturn takes of EFLAGS; the rest stays."""
UNUSED_FPSTATE_BYTES = 624
OLD_FRAME_BYTES = 4 + 4 + SIGCONTEXT_BYTES + UNUSED_FPSTATE_BYTES + 4 + 8
UCONTEXT_BYTES = 4 + 4 + 12 + SIGCONTEXT_BYTES + 8
RT_FRAME_BYTES = 16 + SIGINFO_BYTES + UCONTEXT_BYTES + 8
NO_FRAME = 0xFFFFFFFF
SS_AUTODISARM = 1 << 31


class BadFrame(Exception):
    """What sigreturn found is no frame."""


def setup_frame(kernel: Kernel, task: Task, info: SigInfo, action: SigAction) -> bool:
    """Put a frame on the program's stack and let it go on in the handler; False when the frame cannot be stored."""
    state, context = task.signals, task.context
    rt = bool(action.flags & SA_SIGINFO)
    size = RT_FRAME_BYTES if rt else OLD_FRAME_BYTES
    stack = AltStack() if kernel.broken("no-altstack") else state.altstack
    frame, fpstate = _place(context.esp, stack, action, size)
    if frame == NO_FRAME:
        return False
    mask = state.blocked if state.saved_mask is None else state.saved_mask
    saved = _sigcontext(kernel, task, fpstate, mask & 0xFFFFFFFF).pack()
    if action.flags & SA_RESTORER:
        restorer = action.restorer
    else:
        page = map_vdso(kernel, task)
        restorer = page + (RT_SIGRETURN_AT if rt else SIGRETURN_AT) if page else frame + size - 8
    if rt:
        at_info, at_context = frame + 16, frame + 16 + SIGINFO_BYTES
        head = pack("<4I", restorer, info.signo, at_info, at_context) + info.pack()
        head += pack("<5I", 0, 0, *state.altstack.words) + saved + pack("<Q", mask) + RT_SIGRETURN
    else:
        at_info = at_context = 0
        head = pack("<2I", restorer, info.signo) + saved + bytes(UNUSED_FPSTATE_BYTES)
        head += pack("<I", mask >> 32) + SIGRETURN
    image = context.fxsave()
    data = head.ljust(fpstate - frame, b"\0") + fsave_image(image) + image
    if copy_to_user(kernel, task, frame, data):
        return False
    if rt and state.altstack.flags & SS_AUTODISARM:
        state.altstack = AltStack()
    context.reset_fpu()
    quads = context.quads
    quads[EAX], quads[EDX], quads[ECX] = info.signo, at_info, at_context
    quads[ESP], quads[EIP] = frame, action.handler
    context.resumes_at = context.passes = -1
    context.eflags = context.eflags & ~(DF | TF | RF)
    for name in ("ds", "es"):
        if context.quads[SEGMENT_SLOTS[name]] & 0xFFFF != USER_DS:
            load_data(kernel, task, name, USER_DS)
    load_stack(kernel, task, USER_DS)
    load_code(kernel, task, USER_CS)
    return True


def _place(esp: int, stack: AltStack, action: SigAction, size: int) -> tuple[int, int]:
    """Where a frame and its FPU state go; NO_FRAME when they do not fit on the alternate stack."""
    nested = stack.size and stack.holds(esp) and not stack.flags & SS_AUTODISARM
    entering = False
    if action.flags & SA_ONSTACK and stack.size and not nested:
        esp, entering = stack.base + stack.size, True
    image = esp - FXSAVE_BYTES & ~63
    fpstate = image - FSAVE_BYTES
    frame = (fpstate - size + 4 & ~15) - 4
    if frame < 0 or ((nested or entering) and not stack.holds(frame)):
        return NO_FRAME, 0
    return frame, fpstate


def _sigcontext(kernel: Kernel, task: Task, fpstate: int, oldmask: int) -> SigContext:
    context, state = task.context, task.signals
    gs, fs, es, ds, cs, ss = (
        context.quads[SEGMENT_SLOTS[name]] & 0xFFFF for name in ("gs", "fs", "es", "ds", "cs", "ss")
    )
    esp = context.esp
    return SigContext(
        gs, fs, es, ds, context.edi, context.esi, context.ebp, esp, context.ebx, context.edx, context.ecx, context.eax,
        state.trapno, state.err, context.eip, cs, context.eflags, esp, ss, fpstate, oldmask, state.cr2,
    )  # fmt: skip


def restore_old_frame(kernel: Kernel, task: Task) -> int:
    """sigreturn(2): take back what lies 8 bytes below the stack pointer; EAX.  Raises BadFrame."""
    frame = task.context.esp - 8
    data = _read(kernel, task, frame, OLD_FRAME_BYTES - 8)
    (high,) = unpack_from("<I", data, OLD_FRAME_BYTES - 12)
    saved = SigContext.unpack(data[8 : 8 + SIGCONTEXT_BYTES])
    task.signals.blocked = (saved.oldmask | high << 32) & ~UNBLOCKABLE
    return _restore(kernel, task, saved)


def restore_rt_frame(kernel: Kernel, task: Task) -> int:
    """rt_sigreturn(2): the same for the rt form, 4 bytes below the stack pointer.  Raises BadFrame."""
    at = task.context.esp - 4 + 16 + SIGINFO_BYTES
    data = _read(kernel, task, at, UCONTEXT_BYTES)
    base, flags, size = unpack_from("<3I", data, 8)
    (mask,) = unpack_from("<Q", data, UCONTEXT_BYTES - 8)
    task.signals.blocked = mask & ~UNBLOCKABLE
    result = _restore(kernel, task, SigContext.unpack(data[20 : 20 + SIGCONTEXT_BYTES]))
    stack = AltStack(base, size, flags)
    if stack_is_valid(stack):
        task.signals.altstack = normalized(stack)
    return result


def stack_is_valid(stack: AltStack) -> bool:
    """sigaltstack(2) takes it: known flags, and large enough unless it is switched off."""
    mode = stack.flags & ~SS_AUTODISARM
    return mode == SS_DISABLE or (mode in (0, SS_ONSTACK) and stack.size >= MINSIGSTKSZ)


def normalized(stack: AltStack) -> AltStack:
    """A stack as the kernel keeps it: one that is switched off has no place."""
    if stack.flags & ~SS_AUTODISARM == SS_DISABLE:
        return AltStack(flags=stack.flags)
    return replace(stack)


def _read(kernel: Kernel, task: Task, address: int, size: int) -> bytes:
    if address < 0:
        raise BadFrame
    try:
        return get_user(kernel, task, address, size)
    except KernelError as error:
        raise BadFrame from error


def _restore(kernel: Kernel, task: Task, saved: SigContext) -> int:
    """Registers and the FPU from a frame: whatever is in it, the program stays in ring 3.  Raises BadFrame."""
    context = task.context
    context.ebx, context.ecx, context.edx = saved.ebx, saved.ecx, saved.edx
    context.esi, context.edi, context.ebp, context.esp = saved.esi, saved.edi, saved.ebp, saved.esp
    context.eax, context.eip = saved.eax, saved.eip
    context.resumes_at = context.passes = -1
    restored = RESTORED_FLAGS & ~TF if kernel.broken("no-trap-flag") else RESTORED_FLAGS
    context.eflags = context.eflags & ~RESTORED_FLAGS | saved.eflags & restored
    for name in ("gs", "fs", "es", "ds"):
        selector = getattr(saved, name)
        if context.quads[SEGMENT_SLOTS[name]] & 0xFFFF != selector:
            load_data(kernel, task, name, selector)
    whole = _reload(kernel, task, "cs", saved.cs | 3) and _reload(kernel, task, "ss", saved.ss | 3)
    if not saved.fpstate:
        context.reset_fpu()
    else:
        data = _read(kernel, task, saved.fpstate, FSAVE_BYTES + FXSAVE_BYTES)
        if not kernel.broken("no-fpu-frame"):
            context.fxrstor(merge_fsave(data[:FSAVE_BYTES], data[FSAVE_BYTES:]))
    if not whole:
        raise BadFrame
    return saved.eax


def _reload(kernel: Kernel, task: Task, name: str, selector: int) -> bool:
    """CS or SS of a frame; False when IRET would refuse it."""
    if task.context.quads[SEGMENT_SLOTS[name]] & 0xFFFF == selector:
        return True
    return load_code(kernel, task, selector) if name == "cs" else load_stack(kernel, task, selector)
